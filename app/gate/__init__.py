"""The gate: criteria → verdict. Candidate and incumbent answer the same holdout rows, as when they serve.

Pure but for the clock that times the batches: no database, no queue, no HTTP.
"""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import Invalid
from app.gate.bootstrap import paired_intervals
from app.gate.criteria import Gate, Mode
from app.gate.measurement import LATENCY, Measured, Unmeasurable, measure, named, truth_of
from app.gate.metrics import METRICS
from app.gate.report import CriterionResult, GateReport, Outcome, Verdict, comparison
from app.gate.verdict import Evidence, Figure, criterion_result, overall
from app.runtimes import Predictor
from app.runtimes.schema import Label

__all__ = ["CriterionResult", "Gate", "GateReport", "Mode", "Outcome", "Verdict", "comparison", "judge"]


def judge(
    candidate: Predictor,
    incumbent: Predictor | None,
    incumbent_number: int | None,
    table: pa.Table,
    label: str,
    gate: Gate,
    *,
    mode: Mode,
    data_version: str,
    seed: int,
) -> GateReport:
    """Judges `candidate` on the holdout rows of `table` that have a truth in column `label`.

    `incumbent_number` None says that no version was ever active. An incumbent that has a number and is None
    could not be loaded: every comparison with it is inconclusive. Blocks while both answer all rows.
    Raises Invalid (`column_missing`) where the table has no column `label`.
    """
    if label not in table.column_names:
        raise Invalid(f"The holdout has no label column {label}.", code="column_missing", missing=[label])
    table = table.filter(pc.is_valid(table.column(label)))
    truth, labels = table.column(label).to_pylist(), candidate.schema.labels
    mine = _measured("the candidate", candidate, table, truth, labels)
    theirs = None
    if incumbent_number is not None:
        theirs = _measured(f"the incumbent, version {incumbent_number},", incumbent, table, truth, labels)
    evidence = _evidence(gate, mine, theirs, seed)
    results = [criterion_result(name, c, evidence[name], mode) for name, c in gate.effective().items()]
    counts = Counter(truth)
    rows_per_class = {named(value): counts[value] for value in labels}
    verdict, reason = overall(results, len(truth), rows_per_class, gate)
    return GateReport(
        verdict=verdict,
        mode=mode,
        incumbent=incumbent_number,
        data_version=data_version,
        rows=len(truth),
        rows_per_class=rows_per_class,
        criteria=results,
        reason=reason,
    )


def _measured(
    who: str, predictor: Predictor | None, table: pa.Table, truth: Sequence[object], labels: Sequence[Label]
) -> Measured | str:
    """What the version measures, or why it cannot be measured."""
    if predictor is None:
        return f"{who} cannot be loaded"
    try:
        return measure(predictor, table, truth_of(truth, labels), labels)
    except Unmeasurable as error:
        return f"{who} cannot be measured: {error}"


def _evidence(gate: Gate, mine: Measured | str, theirs: Measured | str | None, seed: int) -> dict[str, Evidence]:
    """What each criterion is judged by. Latency is a figure of batches, not of rows: it has no interval."""
    names = gate.effective().keys()
    intervals: dict[str, tuple[float, float]] = {}
    if isinstance(mine, Measured) and isinstance(theirs, Measured):
        intervals = paired_intervals(
            names & METRICS.keys() & mine.figures.keys() & theirs.figures.keys(),
            mine.answers,
            theirs.answers,
            resamples=gate.resamples,
            confidence=gate.confidence,
            seed=seed,
        )
    return {
        name: Evidence(
            candidate=_figure(name, mine),
            incumbent=None if theirs is None else _figure(name, theirs),
            interval=intervals.get(name),
            n=0 if isinstance(mine, str) else mine.batches if name == LATENCY else len(mine.answers.truth),
        )
        for name in names
    }


def _figure(name: str, measured: Measured | str) -> Figure:
    if isinstance(measured, str):
        return measured
    if name in measured.figures:
        return measured.figures[name]
    if name in METRICS:
        return f"{name} has no finite value on these rows"
    return f"the gate does not measure {name}; it knows {', '.join([*METRICS, LATENCY])}"
