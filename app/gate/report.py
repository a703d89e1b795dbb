"""What the gate found and said, as it is kept with the version and shown to people."""

from typing import Literal

from app.gate.criteria import Mode
from app.schemas import Strict

Verdict = Literal["pass", "fail", "inconclusive"]
Outcome = Literal["pass", "fail", "inconclusive", "not_applicable"]


class CriterionResult(Strict):
    """One criterion, judged.

    A figure is None where it could not be measured, and the incumbent's also where there is none. `delta` is
    candidate minus incumbent, `interval` its bootstrap interval. `n` counts rows; of latency, timed batches.
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


class GateReport(Strict):
    """The verdict on one candidate, judged against version `incumbent` (None: none was ever active)."""

    verdict: Verdict
    mode: Mode
    incumbent: int | None
    data_version: str
    rows: int
    rows_per_class: dict[str, int]
    criteria: list[CriterionResult]
    reason: str


def comparison(report: GateReport) -> dict[str, dict[str, float | None]]:
    """The runbook's "delta against production model": `{metric: {candidate, incumbent, delta}}`."""
    return {c.name: {"candidate": c.candidate, "incumbent": c.incumbent, "delta": c.delta} for c in report.criteria}
