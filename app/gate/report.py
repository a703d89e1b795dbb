"""What the gate found and said, as it is kept with the version and shown to people."""

from typing import Literal

from pydantic import Field

from app.gate.criteria import Mode
from app.schemas import Strict

Verdict = Literal["pass", "fail", "inconclusive"]
Outcome = Literal["pass", "fail", "inconclusive", "not_applicable"]


class CriterionResult(Strict):
    """One criterion, judged.

    A figure is None where it could not be measured, and the incumbent's also where there is none. `delta` is
    candidate minus incumbent, `interval` its bootstrap interval. `n` counts rows; of latency, timed batches.
    `slice` is the group that it speaks of, such as `region=north`; None: all rows.
    """

    name: str
    verdict: Outcome
    candidate: float | None
    incumbent: float | None
    delta: float | None
    requirement: str
    n: int
    interval: tuple[float, float] | None
    reason: str
    slice: str | None = None


class LabelStanding(Strict):
    """Of one label: how many of the judged rows have it, how many the candidate gave it to, and how many are both."""

    label: str | int | float | bool
    actual: int
    given: int
    hits: int


class GateReport(Strict):
    """The verdict on one candidate, judged against version `incumbent` (None: none was ever active).

    `rows` are those that the candidate was not trained on. `excluded` counts rows by the version that was, `candidate`
    or `incumbent`, null where nobody knows; then `leak_check` is `unknown` and `leak_reason` says why. `standings` are
    the candidate's, by head: what a watch holds it to.
    """

    verdict: Verdict
    mode: Mode
    incumbent: int | None
    data_version: str
    rows: int
    rows_per_class: dict[str, int]
    criteria: list[CriterionResult]
    reason: str
    confidence: float | None = Field(None, description="of every interval in it; null: kept before this was told")
    excluded: dict[str, int | None] = Field(default_factory=dict)
    leak_check: Literal["done", "unknown"] = "unknown"
    leak_reason: str | None = None
    standings: dict[str, list[LabelStanding]] = Field(default_factory=dict)


def comparison(report: GateReport) -> dict[str, dict[str, float | None]]:
    """The runbook's "delta against production model": `{metric: {candidate, incumbent, delta}}`, of all rows."""
    whole = [c for c in report.criteria if c.slice is None]
    return {c.name: {"candidate": c.candidate, "incumbent": c.incumbent, "delta": c.delta} for c in whole}
