"""What each question is judged by: the figures of both versions on rows that neither was trained on, and intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.gate.bootstrap import Sample, paired_replicates, percentiles, simultaneous
from app.gate.criteria import LATENCY, Gate
from app.gate.measurement import Measured
from app.gate.metrics import Measure
from app.gate.questions import Question, Unanswerable, measure_of, too_few
from app.gate.report import CriterionResult
from app.gate.slices import Group
from app.gate.tally import Answers, Floats, Integers, Tally
from app.gate.verdict import Evidence, Figure, Shortage, criterion_result
from app.runtimes.schema import Label

# An interval of resamples, in more of which than this the figure has no value, would be of the others alone.
MOST_WITHOUT_VALUE = 0.05


@dataclass(frozen=True)
class Pool:
    """What the versions answered to the same rows, or why one has no answers. `incumbent` None: none was ever active.

    `rows` are places in the table, ascending; `few` says why they are too few to compare on.
    """

    rows: Integers
    candidate: Measured | str
    incumbent: Measured | str | None
    few: str | None = None


@dataclass(frozen=True)
class Look:
    """A question with what was found, and how it was: `rows` are places in the pool, None for all of it."""

    question: Question
    evidence: Evidence
    measure: Measure | None = None
    rows: Integers | None = None


def results_of(
    questions: Sequence[Question], alone: Pool, both: Pool, labels: Sequence[Label], gate: Gate, seed: int
) -> list[CriterionResult]:
    """Every question, judged. What compares is judged on `both`, what asks of the candidate itself on `alone`."""
    places: dict[tuple[int, int], Integers] = {}
    looks = []
    for question in questions:
        pool = both if question.criterion.compares and both.incumbent is not None else alone
        rows = _within(pool, question.group, places)
        looks.append(_look(question, pool, rows, labels))
    found = _with_intervals(looks, both, gate, seed)
    return [
        criterion_result(
            look.question.name,
            look.question.criterion,
            look.evidence,
            look.question.mode,
            slice=look.question.group.name if look.question.group else None,
        )
        for look in found
    ]


def _within(pool: Pool, group: Group | None, places: dict[tuple[int, int], Integers]) -> Integers | None:
    """Where the group's rows stand in the pool: one array for all questions about it."""
    if group is None:
        return None
    key = (id(pool), id(group))
    if key not in places:
        places[key] = np.flatnonzero(np.isin(pool.rows, group.rows, assume_unique=True))
    return places[key]


def _look(question: Question, pool: Pool, rows: Integers | None, labels: Sequence[Label]) -> Look:
    theirs = pool.incumbent if question.criterion.compares else None
    if question.cannot is not None or isinstance(pool.candidate, str):
        why = question.cannot or str(pool.candidate)
        return Look(question, Evidence(why, why if theirs is not None else None, None, 0))
    if question.asked.metric == LATENCY:
        return Look(question, _of_batches(pool.candidate, pool.incumbent))
    truth = pool.candidate.answers.truth if rows is None else pool.candidate.answers.truth[rows]
    counts = np.bincount(truth, minlength=len(labels))
    if few := _shortage(question, pool, labels, counts):
        return Look(question, Evidence(few.reason, None, None, len(truth), few))
    try:
        measure = measure_of(question, labels, counts)
    except Unanswerable as error:
        return Look(question, Evidence(str(error), None, None, len(truth)))
    evidence = Evidence(
        candidate=_figure(question, measure, pool.candidate, rows),
        incumbent=None if pool.incumbent is None else _figure(question, measure, pool.incumbent, rows),
        interval=None,
        n=len(truth),
    )
    return Look(question, evidence, measure, rows)


def _shortage(question: Question, pool: Pool, labels: Sequence[Label], counts: Integers) -> Shortage | None:
    if pool.few:
        return Shortage("inconclusive", pool.few)
    few = too_few(question, labels, counts)
    ignored = question.slice is not None and question.slice.too_few == "ignore"
    return Shortage("not_applicable" if ignored else "inconclusive", few) if few else None


def _of_batches(mine: Measured, theirs: Measured | str | None) -> Evidence:
    """Latency is a figure of batches, not of rows: it has no interval."""
    incumbent = theirs.figures[LATENCY] if isinstance(theirs, Measured) else theirs
    return Evidence(mine.figures[LATENCY], incumbent, None, mine.batches)


def _figure(question: Question, measure: Measure, measured: Measured | str, rows: Integers | None) -> Figure:
    if isinstance(measured, str):
        return measured
    if rows is None and measure.labels is None:
        value = measured.figures.get(measure.metric, math.nan)
    else:
        answers = measured.answers if rows is None else measured.answers.take(rows)
        value = float(measure.of(Tally(answers, np.ones((1, len(answers)))))[0])
    return value if math.isfinite(value) else f"{question.asked.rest} has no finite value on these rows"


def _with_intervals(looks: Sequence[Look], both: Pool, gate: Gate, seed: int) -> list[Look]:
    """Intervals of all differences, from the same resamples; slices' as wide as all of them together ask for."""
    compared = {
        place: Sample(look.measure, look.rows)
        for place, look in enumerate(looks)
        if look.measure is not None and look.question.criterion.compares and look.evidence.delta is not None
    }
    if not compared:
        return list(looks)
    replicates = _replicates(compared, both, gate, seed)
    together = {
        place: look.evidence.delta
        for place, look in enumerate(looks)
        if place in replicates and look.question.mode == "loss_shown" and look.evidence.delta is not None
    }
    intervals = {p: percentiles(values, gate.confidence) for p, values in replicates.items() if p not in together}
    intervals |= simultaneous(together, replicates, gate.confidence)
    return [
        replace(look, evidence=replace(look.evidence, interval=intervals.get(place), together=max(1, len(together))))
        for place, look in enumerate(looks)
    ]


def _replicates(compared: dict[int, Sample], both: Pool, gate: Gate, seed: int) -> dict[int, Floats]:
    """Without those that have no value in too many resamples."""
    mine, theirs = _answers(both.candidate), _answers(both.incumbent)
    found = paired_replicates(compared, mine, theirs, resamples=gate.resamples, seed=seed)
    return {place: values for place, values in found.items() if np.isnan(values).mean() <= MOST_WITHOUT_VALUE}


def _answers(measured: Measured | str | None) -> Answers:
    assert isinstance(measured, Measured)  # where there is a difference there are answers
    return measured.answers
