"""The gate: criteria → verdict. Candidate and incumbent answer the same holdout rows, as when they serve.

Pure but for the clock that times the batches: no database, no queue, no HTTP.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import Invalid
from app.gate.criteria import LATENCY, Gate, Mode
from app.gate.evidence import Pool, results_of
from app.gate.measurement import Answered, Measured, Unmeasurable, answer, measure, standing, truth_of
from app.gate.questions import questions_of
from app.gate.report import CriterionResult, GateReport, LabelStanding, Outcome, Verdict, comparison
from app.gate.tally import Integers
from app.gate.verdict import overall
from app.runtimes import Predictor
from app.runtimes.schema import Head, Label, named

__all__ = ["CriterionResult", "Gate", "GateReport", "Mode", "Outcome", "Seen", "Verdict", "comparison", "judge"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """Which of the holdout's rows a version was trained on, (n,), or why nobody knows.

    `incumbent` None: there is none.
    """

    candidate: Mask | str
    incumbent: Mask | str | None

    @property
    def unknown(self) -> str | None:
        versions = {"candidate": self.candidate, "incumbent": self.incumbent}
        told = [f"which rows the {who} was trained on ({why})" for who, why in versions.items() if isinstance(why, str)]
        return f"nobody knows {' nor '.join(told)}" if told else None

    def counts(self) -> dict[str, int | None]:
        masks = {"candidate": self.candidate, "incumbent": self.incumbent}
        return {who: None if isinstance(m, str) else int(m.sum()) for who, m in masks.items() if m is not None}


@dataclass(frozen=True)
class Truth:
    """Which rows of the holdout have a label in one label column, and which."""

    rows: Integers
    values: Sequence[object]

    def unseen(self, mask: Mask | str | None) -> "Truth":
        """Without the rows of the mask, where there is one."""
        if mask is None or isinstance(mask, str) or not mask[self.rows].any():
            return self
        kept = np.flatnonzero(~mask[self.rows])
        return Truth(self.rows[kept], [self.values[place] for place in kept.tolist()])


@dataclass(frozen=True)
class Contender:
    """A version in the gate: how it is spoken of, and its answers or why there are none."""

    who: str
    answered: Answered | str

    def measured(self, head: str, truth: Truth, labels: Sequence[Label]) -> Measured | str:
        if isinstance(self.answered, str):
            return f"{self.who} {self.answered}"
        if not len(truth.rows):
            return "no row is left to judge by"
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
    seen: Seen,
) -> GateReport:
    """Judges `candidate` on the holdout rows of `table`: each of its heads on those that have a truth in its column.

    `incumbent_number` None says that no version was ever active. An incumbent that has a number and is None
    could not be loaded: every comparison with it is inconclusive. Rows that the candidate was trained on judge nothing,
    those that the incumbent was trained on compare nothing. Blocks while both answer all rows.
    Raises Invalid (`column_missing`) where the table has no column of a head's name.
    """
    heads = candidate.schema.heads
    truths = {head.name: _truth(table, head.name).unseen(seen.candidate) for head in heads}
    mine = _asked("the candidate", candidate, table)
    theirs = (
        None if incumbent_number is None else _asked(f"the incumbent, version {incumbent_number},", incumbent, table)
    )
    results: list[CriterionResult] = []
    rows_per_class: dict[str, int] = {}
    standings: dict[str, list[LabelStanding]] = {}
    for head in heads:
        truth, told = truths[head.name], _telling(head, heads)
        questions = questions_of(table, head.name, told, gate, mode, first=head is heads[0])
        alone, both = _pools(mine, theirs, head, truth, truth.unseen(seen.incumbent), gate)
        results += results_of(questions, alone, both, head.labels, gate, seed)
        standings[head.name] = standing(alone.candidate, head.labels)
        counts = Counter(truth.values)
        rows_per_class |= {told(named(value)): counts[value] for value in head.labels}
    rows = len(np.unique(np.concatenate([truth.rows for truth in truths.values()])))
    verdict, reason = overall(results, rows, rows_per_class, gate, unknown=seen.unknown)
    return GateReport(
        verdict=verdict,
        mode=mode,
        incumbent=incumbent_number,
        data_version=data_version,
        rows=rows,
        rows_per_class=rows_per_class,
        criteria=results,
        reason=reason,
        confidence=gate.confidence,
        excluded=seen.counts(),
        leak_check="unknown" if seen.unknown else "done",
        leak_reason=seen.unknown,
        standings=standings,
    )


def _pools(
    mine: Contender, theirs: Contender | None, head: Head, truth: Truth, unseen: Truth, gate: Gate
) -> tuple[Pool, Pool]:
    """The candidate alone, and both on the rows that neither was trained on; mostly the same rows."""
    measured = mine.measured(head.name, truth, head.labels)
    rival = theirs.measured(head.name, unseen, head.labels) if theirs else None
    if unseen is truth:
        pool = Pool(truth.rows, measured, rival)
        return pool, pool
    both = mine.measured(head.name, unseen, head.labels)
    return Pool(truth.rows, measured, None), Pool(unseen.rows, both, rival, _too_few(unseen, head, gate))


def _too_few(unseen: Truth, head: Head, gate: Gate) -> str | None:
    """Whether what the incumbent was not trained on is enough to compare on."""
    counts = Counter(unseen.values)
    short = [f"{counts[label]} of {named(label)}" for label in head.labels if counts[label] < gate.min_rows_per_class]
    if len(unseen.rows) >= gate.min_rows and not short:
        return None
    left = f"the incumbent was trained on all but {len(unseen.rows)} of the rows"
    return f"{left} ({', '.join(short)}), too few to compare on" if short else f"{left}, too few to compare on"


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
