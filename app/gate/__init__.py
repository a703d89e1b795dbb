"""The gate: criteria → verdict. Candidate and incumbent answer the same holdout rows, as when they serve.

Pure but for the clock that times the batches: no database, no queue, no HTTP.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import Invalid
from app.gate.bootstrap import paired_intervals
from app.gate.criteria import LATENCY, Criterion, Gate, Mode
from app.gate.measurement import Answered, Measured, Unmeasurable, answer, measure, truth_of
from app.gate.metrics import METRICS, Integers
from app.gate.report import CriterionResult, GateReport, Outcome, Verdict, comparison
from app.gate.verdict import Evidence, Figure, criterion_result, overall
from app.runtimes import Predictor
from app.runtimes.schema import Head, Label, named

__all__ = ["CriterionResult", "Gate", "GateReport", "Mode", "Outcome", "Verdict", "comparison", "judge"]


@dataclass(frozen=True)
class Truth:
    """Which rows of the holdout have a label in one label column, and which."""

    rows: Integers
    values: Sequence[object]


@dataclass(frozen=True)
class Contender:
    """A version in the gate: how it is spoken of, and its answers or why there are none."""

    who: str
    answered: Answered | str

    def measured(self, head: str, truth: Truth, labels: Sequence[Label]) -> Measured | str:
        if isinstance(self.answered, str):
            return f"{self.who} {self.answered}"
        try:
            return measure(self.answered, head, truth.rows, truth_of(truth.values, labels), labels)
        except Unmeasurable as error:
            return f"{self.who} cannot be measured: {error}"


def judge(
    candidate: Predictor,
    incumbent: Predictor | None,
    incumbent_number: int | None,
    table: pa.Table,
    gate: Gate,
    *,
    mode: Mode,
    data_version: str,
    seed: int,
) -> GateReport:
    """Judges `candidate` on the holdout rows of `table`: each of its heads on those that have a truth in its column.

    `incumbent_number` None says that no version was ever active. An incumbent that has a number and is None
    could not be loaded: every comparison with it is inconclusive. Blocks while both answer all rows.
    Raises Invalid (`column_missing`) where the table has no column of a head's name.
    """
    heads = candidate.schema.heads
    truths = {head.name: _truth(table, head.name) for head in heads}
    mine = _asked("the candidate", candidate, table)
    theirs = (
        None if incumbent_number is None else _asked(f"the incumbent, version {incumbent_number},", incumbent, table)
    )
    results: list[CriterionResult] = []
    rows_per_class: dict[str, int] = {}
    for place, head in enumerate(heads):
        truth, told = truths[head.name], _telling(head, heads)
        criteria = gate.criteria_of(head.name)
        if place:
            criteria.pop(LATENCY, None)  # of the whole version, and asked once
        evidence = _evidence(
            criteria,
            mine.measured(head.name, truth, head.labels),
            theirs.measured(head.name, truth, head.labels) if theirs else None,
            gate,
            seed,
        )
        results += [criterion_result(told(name), c, evidence[name], mode) for name, c in criteria.items()]
        counts = Counter(truth.values)
        rows_per_class |= {told(named(value)): counts[value] for value in head.labels}
    rows = len(np.unique(np.concatenate([truth.rows for truth in truths.values()])))
    verdict, reason = overall(results, rows, rows_per_class, gate)
    return GateReport(
        verdict=verdict,
        mode=mode,
        incumbent=incumbent_number,
        data_version=data_version,
        rows=rows,
        rows_per_class=rows_per_class,
        criteria=results,
        reason=reason,
    )


def _truth(table: pa.Table, label: str) -> Truth:
    if label not in table.column_names:
        raise Invalid(f"The holdout has no label column {label}.", code="column_missing", missing=[label])
    column = table.column(label)
    return Truth(np.flatnonzero(pc.is_valid(column).to_numpy()), column.drop_null().to_pylist())


def _asked(who: str, predictor: Predictor | None, table: pa.Table) -> Contender:
    if predictor is None:
        return Contender(who, "cannot be loaded")
    try:
        return Contender(who, answer(predictor, table))
    except Unmeasurable as error:
        return Contender(who, f"cannot be measured: {error}")


def _telling(head: Head, heads: Sequence[Head]) -> Callable[[str], str]:
    """Names of figures and labels, with the head's before it where there are several; latency is nobody's own."""
    return lambda name: name if len(heads) == 1 or name == LATENCY else f"{head.name}.{name}"


def _evidence(
    criteria: Mapping[str, Criterion], mine: Measured | str, theirs: Measured | str | None, gate: Gate, seed: int
) -> dict[str, Evidence]:
    """What each criterion is judged by. Latency is a figure of batches, not of rows: it has no interval."""
    intervals: dict[str, tuple[float, float]] = {}
    if isinstance(mine, Measured) and isinstance(theirs, Measured):
        intervals = paired_intervals(
            criteria.keys() & METRICS.keys() & mine.figures.keys() & theirs.figures.keys(),
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
        for name in criteria
    }


def _figure(name: str, measured: Measured | str) -> Figure:
    if isinstance(measured, str):
        return measured
    if name in measured.figures:
        return measured.figures[name]
    if name in METRICS:
        return f"{name} has no finite value on these rows"
    return f"the gate does not measure {name}; it knows {', '.join([*METRICS, LATENCY])}"
