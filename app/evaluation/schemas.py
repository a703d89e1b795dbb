"""The evaluation of one version: every answer with its scores, as it lies in the store and people read it."""

from typing import Any, Self

from pydantic import Field

from app.gate.report import GateReport
from app.runtimes.chat import Message
from app.schemas import Strict

WORST_BY = "token_f1"
SAMPLES = 20  # answers that a report shows, where nobody asks for more


class Answered(Strict):
    """One answer with its scores by metric, each in [0, 1] unless its name says otherwise; None: not to be had."""

    text: str
    finish_reason: str
    seconds: float
    scores: dict[str, float | None]


class Row(Strict):
    """One held-out prompt. `prompt` names it for ever; `beside` are other columns of the data, such as a risk."""

    prompt: str = Field(description="16 hex digits of the conversation's sha256")
    messages: list[Message]
    reference: str
    candidate: Answered
    incumbent: Answered | None
    beside: dict[str, Any] = Field(default_factory=dict)


class Findings(Strict):
    """What was asked of a candidate and of the incumbent, number `incumbent`; None: no version was active.

    `corpus` are the figures of all rows together, by metric: {candidate, incumbent}.
    """

    model: str
    artifact: str
    data_version: str
    incumbent: int | None
    rows: list[Row]
    corpus: dict[str, dict[str, float | None]]
    gate: GateReport
    judges: dict[str, dict[str, Any]] = Field(default_factory=dict, description="who scored what, by the score's name")
    notes: list[str] = Field(default_factory=list, description="what could not be measured, and why")


class Evaluation(Findings):
    """As it is kept. `salt` decides which answer is A on the sheet that people read blind: nobody is shown it."""

    salt: str = ""

    @property
    def findings(self) -> Findings:
        return Findings(**{name: getattr(self, name) for name in Findings.model_fields})


class EvaluationView(Findings):
    """An evaluation as it is read. `rows` are at most `samples` of `rows_answered`, with what is worst first: where the
    candidate fell farthest behind the incumbent, or scored least."""

    digest: str
    job_id: int
    version: int | None
    rows_answered: int

    @classmethod
    def of(cls, found: Evaluation, digest: str, job_id: int, version: int | None, samples: int) -> Self:
        told = {name: getattr(found, name) for name in Findings.model_fields}
        told["rows"] = sorted(found.rows, key=_standing)[:samples]
        return cls(**told, digest=digest, job_id=job_id, version=version, rows_answered=len(found.rows))


def _standing(row: Row) -> tuple[float, float, str]:
    """By what a row stands for: token F1 says something of every text."""
    mine = row.candidate.scores.get(WORST_BY) or 0.0
    theirs = row.incumbent.scores.get(WORST_BY) or 0.0 if row.incumbent else 0.0
    return mine - theirs, mine, row.prompt
