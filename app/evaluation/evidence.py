"""What each criterion of a language model is judged by: figures of both versions on the rows that both have, intervals
of their difference, of all rows and of each slice."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.evaluation.bootstrap import Sample, replicates
from app.evaluation.criteria import criteria_of
from app.evaluation.metrics import Floats, metric
from app.gate.bootstrap import percentiles, simultaneous
from app.gate.criteria import LATENCY, Criterion, Gate, Mode, Slice
from app.gate.evidence import MOST_WITHOUT_VALUE
from app.gate.measurement import nearest_rank
from app.gate.report import CriterionResult
from app.gate.slices import Group, Unsliceable, groups_of
from app.gate.tally import Integers
from app.gate.verdict import Evidence, Figure, Rule, Shortage, criterion_result


@dataclass(frozen=True)
class Measured:
    """What a version's answers to n rows told: statistics (n, k) by metric, or why there are none; seconds (n,)."""

    statistics: Mapping[str, Floats | str]
    seconds: Floats


@dataclass(frozen=True)
class Contest:
    """Both versions on the same n rows. `incumbent`: why it has no answers; None: no version was ever active."""

    candidate: Measured
    incumbent: Measured | str | None

    @property
    def rows(self) -> int:
        return len(self.candidate.seconds)

    def sample(self, name: str, compared: bool, within: Integers | None = None) -> Sample | str:
        """Of a metric: the rows (of those at `within`) that have it, of the candidate or of both; a text says why there
        is none."""
        places = np.arange(self.rows) if within is None else within
        mine = _known(self.candidate, name, "the candidate")
        if isinstance(mine, str):
            return mine
        if not compared or self.incumbent is None:
            return Sample(metric(name), mine, None, places[_has(mine[places])])
        if isinstance(self.incumbent, str):
            return self.incumbent
        theirs = _known(self.incumbent, name, "the incumbent")
        if isinstance(theirs, str):
            return theirs
        return Sample(metric(name), mine, theirs, places[_has(mine[places]) & _has(theirs[places])])


@dataclass(frozen=True)
class Look:
    """One criterion, of all rows or of a group, and what was found. `sample` is what an interval can be drawn from."""

    name: str
    criterion: Criterion
    mode: Rule
    evidence: Evidence
    group: str | None = None
    sample: Sample | None = None


def results_of(contest: Contest, beside: pa.Table, gate: Gate, mode: Mode, seed: int) -> list[CriterionResult]:
    """Every criterion, judged. `beside` has the n rows' other columns, which slices are of."""
    looks = [_look(contest, name, name, c, mode, gate.min_rows) for name, c in criteria_of(gate).items()]
    looks += [look for slice in gate.slices for look in _sliced(contest, beside, slice)]
    return [
        criterion_result(look.name, look.criterion, look.evidence, look.mode, slice=look.group)
        for look in _with_intervals(looks, contest.rows, gate, seed)
    ]


def figure(sample: Sample, statistics: Floats) -> float | None:
    """On the sample's rows; None where they tell none."""
    value = float(sample.metric.figure(statistics[sample.rows].sum(axis=0)[None])[0])
    return value if math.isfinite(value) else None


def p99(measured: Measured) -> float:
    """Seconds of an answer, of the slowest one in a hundred."""
    return nearest_rank(measured.seconds.tolist(), 0.99)


def interval_of(values: Floats, confidence: float) -> tuple[float, float] | None:
    """None where too many resamples tell no figure."""
    return percentiles(values, confidence) if np.isnan(values).mean() <= MOST_WITHOUT_VALUE else None


def _look(
    contest: Contest, name: str, of: str, criterion: Criterion, mode: Rule, least: int, group: Group | None = None
) -> Look:
    told = group.name if group else None
    if of == LATENCY:
        return Look(name, criterion, mode, _of_latency(contest), told)
    within = group.rows if group else None
    sample = contest.sample(of, criterion.compares, within)
    if isinstance(sample, str):
        return Look(name, criterion, mode, _alone(contest.sample(of, False, within), of, sample), told)
    rows = len(sample.rows)
    if rows < least:
        few = Shortage("inconclusive", f"{rows} rows have it, and {least} are asked for")
        return Look(name, criterion, mode, Evidence(few.reason, None, None, rows, few), told)
    theirs = None if sample.theirs is None else _told(sample, sample.theirs, of)
    return Look(name, criterion, mode, Evidence(_told(sample, sample.mine, of), theirs, None, rows), told, sample)


def _alone(sample: Sample | str, of: str, because: str) -> Evidence:
    """Of the candidate where there is nothing to compare it with; `because` says why."""
    if isinstance(sample, str):
        return Evidence(sample, because, None, 0)
    return Evidence(_told(sample, sample.mine, of), because, None, len(sample.rows))


def _sliced(contest: Contest, beside: pa.Table, slice: Slice) -> Iterator[Look]:
    try:
        groups = groups_of(beside, slice.column, slice.at_most)
    except Unsliceable as error:
        for name, criterion in slice.criteria.items():
            evidence = Evidence(str(error), None, None, 0)
            yield Look(f"{name}[{slice.column}]", criterion, slice.mode, evidence, slice.column)
        return
    for group in groups:
        for name, criterion in slice.criteria.items():
            look = _look(contest, f"{name}[{group.name}]", name, criterion, slice.mode, slice.min_rows, group)
            yield _ignored(look) if slice.too_few == "ignore" else look


def _ignored(look: Look) -> Look:
    """A group that is too small is left out."""
    if look.evidence.few is None:
        return look
    return replace(look, evidence=replace(look.evidence, few=replace(look.evidence.few, outcome="not_applicable")))


def _of_latency(contest: Contest) -> Evidence:
    """Latency has no interval: the runs of two versions are no pairs."""
    theirs = p99(contest.incumbent) if isinstance(contest.incumbent, Measured) else contest.incumbent
    return Evidence(p99(contest.candidate), theirs, None, contest.rows)


def _with_intervals(looks: Sequence[Look], rows: int, gate: Gate, seed: int) -> list[Look]:
    """Of all differences, from the same resamples; slices' as wide as all of them together ask for."""
    compared = {
        p: k.sample
        for p, k in enumerate(looks)
        if k.sample and k.sample.theirs is not None and k.evidence.delta is not None
    }
    if not compared:
        return list(looks)
    found = replicates(compared, rows, resamples=gate.resamples, seed=seed)
    told = {p: values for p, values in found.items() if interval_of(values, gate.confidence) is not None}
    together = {p: d for p in told if looks[p].mode == "loss_shown" and (d := looks[p].evidence.delta) is not None}
    intervals = {p: percentiles(values, gate.confidence) for p, values in told.items() if p not in together}
    intervals |= simultaneous(together, told, gate.confidence)
    shared = max(1, len(together))
    return [
        replace(k, evidence=replace(k.evidence, interval=intervals.get(p), together=shared))
        for p, k in enumerate(looks)
    ]


def _known(measured: Measured, name: str, who: str) -> Floats | str:
    found = measured.statistics.get(name, f"{name} was not asked for")
    return f"{who}: {found}" if isinstance(found, str) else found


def _has(statistics: Floats) -> npt.NDArray[np.bool_]:
    has: npt.NDArray[np.bool_] = np.asarray(np.isfinite(statistics).all(axis=1))
    return has


def _told(sample: Sample, statistics: Floats, name: str) -> Figure:
    value = figure(sample, statistics)
    return f"{name} has no finite value on these rows" if value is None else value
