"""How sure a difference is: the paired, stratified bootstrap (Efron & Tibshirani 1993, chapters 6 and 13).

A resample draws as many rows of each label as there are, with replacement, and weighs both versions with the
same draw, so that what makes a row hard for both cancels out. The interval says how far the difference would
move with another holdout of this size. It knows nothing of a holdout that differs from the traffic.

Rows alone would also say nothing of what was not drawn: of 25 positives, of which a candidate loses one in thirty,
often none shows it, and the interval would be [0, 0] and sure. So to the rows of each label come one on which only the
candidate is right and one on which only the incumbent is, each a Poisson(1) number of times, as Agresti & Min (2005)
and Bonett & Price (2012) add to discordant pairs: where no loss is seen in n rows, about 3 / n is what may be there
(Hanley & Lippman-Hand 1983). Versions that give the same probabilities to every row are one, and differ by nothing.

All figures, of all rows and of each slice, are read from the same resamples.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from app.gate.metrics import COUNTED, Measure
from app.gate.tally import Answers, Floats, Integers, Tally, Weights

# Weights of one chunk of resamples: 4 MB, which stays in or near the processor's cache.
CHUNK_WEIGHTS = 1_000_000
# With fewer rows an area is counted out in each resample; with more its first order is as good, and k times as fast.
FEW = 1_000
# A kind of row costs as much to draw as so many rows do one by one.
ROWS_A_KIND = 8

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Sample:
    """What is measured, and on which rows: places in ascending order, or None for all."""

    measure: Measure
    rows: Integers | None = None


def resampled_weights(truth: Integers, resamples: int, seed: int) -> Iterator[Weights]:
    """Chunks (b, n) of `resamples` weightings in all: how often each of the n rows was drawn."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    order = np.argsort(truth, kind="stable")
    sizes = np.unique(truth, return_counts=True)[1]
    chunk = max(1, min(resamples, CHUNK_WEIGHTS // n))
    for first in range(0, resamples, chunk):
        yield _draw(order, sizes.tolist(), min(chunk, resamples - first), rng)


def paired_replicates(
    samples: Mapping[Name, Sample], candidate: Answers, incumbent: Answers, *, resamples: int, seed: int
) -> dict[Name, Floats]:
    """Candidate minus incumbent in every resample, (resamples,), by sample. Both answer the same rows, in one order.

    A sample without rows of every label that it reads is NaN in that resample, or 0 where a share of nothing is.
    """
    same = np.array_equal(candidate.probabilities, incumbent.probabilities)
    same = same and np.array_equal(candidate.predicted, incumbent.predicted)
    groups = _by_rows(samples)
    kinds = _kinds(groups, samples, candidate, incumbent)
    if kinds is None:
        chunks = resampled_weights(candidate.truth, resamples, seed)
    else:
        groups = [(kinds.of(rows), names) for rows, names in groups]
        chunks = iter([kinds.weights(resamples, seed)])
        candidate, incumbent = candidate.take(kinds.first), incumbent.take(kinds.first)
    pairs = [(_of(candidate, rows), _of(incumbent, rows)) for rows, _ in groups]
    rng = np.random.default_rng((seed, 1))
    found: dict[Name, list[Floats]] = {name: [] for name in samples}
    for weights in chunks:
        for (rows, names), pair in zip(groups, pairs, strict=True):
            own = weights if rows is None else np.take(weights, rows, axis=1)
            unseen = (None, None) if same else _unseen(pair[0], len(own), rng)
            tallies = [Tally(answers, own, counts) for answers, counts in zip(pair, unseen, strict=True)]
            for name in names:
                found[name].append(_difference(samples[name].measure, *tallies))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def paired_intervals(
    names: Collection[str],
    candidate: Answers,
    incumbent: Answers,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Percentile interval of candidate minus incumbent, by metric. Both answer the same rows, in one order."""
    samples = {name: Sample(Measure(name)) for name in names}
    found = paired_replicates(samples, candidate, incumbent, resamples=resamples, seed=seed)
    return {name: percentiles(values, confidence) for name, values in found.items()}


def percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def simultaneous(
    deltas: Mapping[Name, float], replicates: Mapping[Name, Floats], confidence: float
) -> dict[Name, tuple[float, float]]:
    """Intervals that hold all of the differences at once, with `confidence`.

    Twenty intervals of 95 % each miss something two times in three. So each is made as wide as the largest of all
    studentised differences asks for: delta ± c·se, c the quantile of max |difference - delta| / se over the
    resamples (the single-step max-T of Westfall & Young 1993, Romano & Wolf 2005). Bonferroni would ask for quantiles
    that 2,000 resamples do not have (0.125 % for twenty), and would pay for what slices share; this does neither.
    """
    spread = {name: float(np.nanstd(replicates[name])) for name in deltas}
    largest = np.zeros(len(next(iter(replicates.values()))) if replicates else 0)
    for name, delta in deltas.items():
        if spread[name] > 0:
            studentised = np.abs(replicates[name] - delta) / spread[name]
            largest = np.fmax(largest, studentised)
    factor = float(np.quantile(largest, confidence)) if len(largest) else 0.0
    return {name: (delta - factor * spread[name], delta + factor * spread[name]) for name, delta in deltas.items()}


@dataclass(frozen=True)
class _Kinds:
    """Rows that no figure tells apart are drawn together: how often a kind comes is multinomial within its label.

    The same distribution as drawing them one by one, at the cost of the kinds instead of the rows.
    """

    first: Integers
    of_row: Integers
    counts: Integers
    truth: Integers

    def of(self, rows: Integers | None) -> Integers | None:
        return None if rows is None else np.unique(self.of_row[rows])

    def weights(self, resamples: int, seed: int) -> Weights:
        rng = np.random.default_rng(seed)
        weights = np.empty((resamples, len(self.counts)), np.float32)
        for label in np.unique(self.truth):
            kinds = np.flatnonzero(self.truth == label)
            n = self.counts[kinds].sum()
            weights[:, kinds] = rng.multinomial(n, self.counts[kinds] / n, size=resamples)
        return weights


def _kinds(
    groups: Sequence[tuple[Integers | None, Sequence[Name]]],
    samples: Mapping[Name, Sample],
    candidate: Answers,
    incumbent: Answers,
) -> _Kinds | None:
    """None where a figure reads probabilities, or where there are nearly as many kinds as rows."""
    if any(sample.measure.metric not in COUNTED for sample in samples.values()):
        return None
    k = candidate.labels + 1
    code = (candidate.truth * k + candidate.predicted + 1) * k + incumbent.predicted + 1
    room = 2**62 // k**3
    for rows, _ in groups:
        if rows is None:
            continue
        if room < 2:
            code, room = np.unique(code, return_inverse=True)[1], 2**62 // len(code)
        within = np.zeros(len(code), np.int64)
        within[rows] = 1
        code, room = code * 2 + within, room // 2
    _, first, of_row, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    if len(first) * ROWS_A_KIND > len(code):
        return None
    return _Kinds(first, of_row, counts, candidate.truth[first])


def _by_rows(samples: Mapping[Name, Sample]) -> list[tuple[Integers | None, list[Name]]]:
    """The samples of each set of rows: those of one slice hold the very same array."""
    groups: dict[int, tuple[Integers | None, list[Name]]] = {}
    for name, sample in samples.items():
        groups.setdefault(id(sample.rows), (sample.rows, []))[1].append(name)
    return list(groups.values())


def _of(answers: Answers, rows: Integers | None) -> Answers:
    return answers if rows is None else answers.take(rows)


def _unseen(answers: Answers, resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(b, 3k) counts for the candidate and for the incumbent: of each label a row that only one of them gets right."""
    present = np.unique(answers.truth)
    other = (present + 1) % answers.labels
    right, wrong = np.concatenate([present, other]), np.concatenate([other, present])
    truth, nothing = np.tile(present, 2), np.zeros((2 * len(present), answers.labels))
    times = rng.poisson(1, size=(resamples, len(truth))).astype(np.float64)
    return times @ Answers(truth, right, nothing).design, times @ Answers(truth, wrong, nothing).design


def _difference(measure: Measure, mine: Tally, theirs: Tally) -> Floats:
    if len(mine.answers) < FEW:
        return measure.of(mine) - measure.of(theirs)
    return measure.quickly(mine) - measure.quickly(theirs)


def _draw(order: Integers, sizes: list[int], count: int, rng: np.random.Generator) -> Weights:
    """(count, n) weights. Counting drawn row numbers is six times as fast as the generator's multinomial."""
    n = len(order)
    cells = np.empty((count, n), np.int64)
    start = 0
    for size in sizes:
        cells[:, start : start + size] = rng.integers(start, start + size, size=(count, size))
        start += size
    cells += n * np.arange(count)[:, None]
    drawn = np.bincount(cells.ravel(), minlength=count * n).reshape(count, n)
    weights = np.empty((count, n), np.float32)
    weights[:, order] = drawn
    return weights
