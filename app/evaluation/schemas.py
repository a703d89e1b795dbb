"""The evaluation of one version: every answer with its scores, as it lies in the store and people read it."""

from typing import Any

from pydantic import Field

from app.gate.report import GateReport
from app.runtimes.chat import Message
from app.schemas import Strict


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


class Evaluation(Strict):
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
