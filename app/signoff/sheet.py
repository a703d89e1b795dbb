"""The evaluation sheet: prompts with both answers, for people who do not know which is whose.

The sheet is the same for everybody and at any time. Its order is drawn from the evaluation's digest: prompts of high
risk first, those of equal risk in random order. Which of the two stands as A is drawn from the evaluation's salt, which
nobody is shown: what is printed on the sheet does not tell. On half of the prompts it is the candidate.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from app.definitions.schemas import Signoff
from app.errors import Invalid, told_name
from app.evaluation.schemas import Evaluation, Row
from app.signoff.schemas import Choice, Item

RISKS = {"none": 0.0, "low": 1.0, "medium": 2.0, "moderate": 2.0, "high": 3.0, "severe": 4.0, "critical": 4.0}
UNKNOWN_RISK = float("-inf")


def items_of(evaluation: Evaluation, digest: str, asked: Signoff) -> list[Item]:
    """At most `asked.prompts`, those of the highest risk."""
    rows = _chosen(evaluation, digest, asked)
    as_a = _candidate_is_a(rows, evaluation, digest)
    return [_item(row, asked, candidate_is_a=row.prompt in as_a) for row in rows]


def resolved(preferences: Mapping[str, Choice], evaluation: Evaluation, digest: str, asked: Signoff) -> dict[str, str]:
    """By prompt: candidate, incumbent or tie. Raises Invalid `not_on_the_sheet`, `nothing_to_prefer`."""
    rows = _chosen(evaluation, digest, asked)
    if strange := sorted(preferences.keys() - {row.prompt for row in rows}):
        raise Invalid(
            f"The sheet has no prompt {told_name(strange[0])}.",
            code="not_on_the_sheet",
            remedy="Name prompts as the sheet does, by their 16 hex digits.",
            field="preferences",
        )
    if preferences and all(row.incumbent is None for row in rows):
        raise Invalid(
            "There is one answer to each prompt: no version was active to compare with.",
            code="nothing_to_prefer",
            remedy="Leave preferences out.",
            field="preferences",
        )
    as_a = _candidate_is_a(rows, evaluation, digest)
    return {prompt: _who(choice, candidate_is_a=prompt in as_a) for prompt, choice in sorted(preferences.items())}


def _chosen(evaluation: Evaluation, digest: str, asked: Signoff) -> list[Row]:
    rows = {row.prompt: row for row in evaluation.rows}.values()
    return sorted(rows, key=lambda row: (-_rank(_risk(row, asked)), _draw(digest, row.prompt)))[: asked.prompts]


def _candidate_is_a(rows: Sequence[Row], evaluation: Evaluation, digest: str) -> frozenset[str]:
    """The half of the sheet's prompts on which it is; of an odd one out the salt decides too."""
    key = (evaluation.salt or digest).encode()
    drawn = sorted((hmac.digest(key, row.prompt.encode(), "sha256"), row.prompt) for row in rows)
    half = (len(drawn) + hmac.digest(key, b"odd", "sha256")[0] % 2) // 2
    return frozenset(prompt for _, prompt in drawn[:half])


def _who(choice: Choice, *, candidate_is_a: bool) -> str:
    if choice == "tie":
        return "tie"
    return "candidate" if (choice == "A") == candidate_is_a else "incumbent"


def _item(row: Row, asked: Signoff, *, candidate_is_a: bool) -> Item:
    answers = {"A": row.candidate.text}
    if row.incumbent is not None:
        pair = (row.candidate.text, row.incumbent.text)
        answers = dict(zip("AB", pair if candidate_is_a else pair[::-1], strict=True))
    return Item(
        prompt=row.prompt, messages=row.messages, reference=row.reference, risk=_risk(row, asked), answers=answers
    )


def _risk(row: Row, asked: Signoff) -> Any:
    return row.beside.get(asked.risk) if asked.risk is not None else None


def _rank(risk: Any) -> float:
    """Numbers by their size, the usual words by their meaning; what is neither comes last."""
    if isinstance(risk, int | float):
        return UNKNOWN_RISK if isnan(risk) else float(risk)
    return RISKS.get(str(risk).strip().lower(), UNKNOWN_RISK)


def _draw(digest: str, prompt: str) -> bytes:
    return hashlib.sha256(f"{digest}:order:{prompt}".encode()).digest()
