"""The evaluation sheet: prompts with both answers, for people who do not know which is whose.

Everything is drawn from the evaluation's digest, so the sheet is the same for everybody and at any time: prompts of
high risk first, those of equal risk in random order, and for each prompt which of the two stands as A.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from app.definitions.schemas import Signoff
from app.errors import Invalid, told_name
from app.evaluation.schemas import Evaluation, Row
from app.signoff.schemas import Choice, Item

Side = Literal["candidate", "incumbent"]
RISKS = {"none": 0.0, "low": 1.0, "medium": 2.0, "moderate": 2.0, "high": 3.0, "severe": 4.0, "critical": 4.0}
UNKNOWN_RISK = float("-inf")


def items_of(evaluation: Evaluation, digest: str, asked: Signoff) -> list[Item]:
    """At most `asked.prompts`, those of the highest risk."""
    rows = {row.prompt: row for row in evaluation.rows}.values()
    chosen = sorted(rows, key=lambda row: (-_rank(_risk(row, asked)), _draw(digest, row.prompt, "order")))
    return [_item(row, digest, asked) for row in chosen[: asked.prompts]]


def candidate_is_a(digest: str, prompt: str) -> bool:
    return _draw(digest, prompt, "side")[0] % 2 == 0


def resolved(preferences: Mapping[str, Choice], items: list[Item], digest: str) -> dict[str, str]:
    """By prompt: candidate, incumbent or tie. Raises Invalid `not_on_the_sheet`, `nothing_to_prefer`."""
    known = {item.prompt for item in items}
    if strange := sorted(preferences.keys() - known):
        raise Invalid(
            f"The sheet has no prompt {told_name(strange[0])}.",
            code="not_on_the_sheet",
            remedy="Name prompts as the sheet does, by their 16 hex digits.",
            field="preferences",
        )
    if preferences and not any("B" in item.answers for item in items):
        raise Invalid(
            "There is one answer to each prompt: no version was active to compare with.",
            code="nothing_to_prefer",
            remedy="Leave preferences out.",
            field="preferences",
        )
    return {prompt: _who(choice, digest, prompt) for prompt, choice in preferences.items()}


def _who(choice: Choice, digest: str, prompt: str) -> str:
    if choice == "tie":
        return "tie"
    return "candidate" if (choice == "A") == candidate_is_a(digest, prompt) else "incumbent"


def _item(row: Row, digest: str, asked: Signoff) -> Item:
    answers = {"A": row.candidate.text}
    if row.incumbent is not None:
        pair = (row.candidate.text, row.incumbent.text)
        answers = dict(zip("AB", pair if candidate_is_a(digest, row.prompt) else pair[::-1], strict=True))
    return Item(
        prompt=row.prompt, messages=row.messages, reference=row.reference, risk=_risk(row, asked), answers=answers
    )


def _risk(row: Row, asked: Signoff) -> Any:
    return row.beside.get(asked.risk) if asked.risk is not None else None


def _rank(risk: Any) -> float:
    """Numbers by their size, the usual words by their meaning; what is neither comes last."""
    if isinstance(risk, int | float):
        return float(risk)
    return RISKS.get(str(risk).strip().lower(), UNKNOWN_RISK)


def _draw(digest: str, prompt: str, what: str) -> bytes:
    return hashlib.sha256(f"{digest}:{what}:{prompt}".encode()).digest()
