"""How sure a difference is: the paired, stratified bootstrap (Efron & Tibshirani 1993, chapters 6 and 13).

A resample draws as many rows of each label as there are, with replacement, and weighs both versions with the
same draw, so that what makes a row hard for both cancels out. The interval says how far the difference would
move with another holdout of this size. It knows nothing of a holdout that differs from the traffic; and where
both versions agree on every row it is [0, 0] however few the rows, which is what `min_rows` is for.
"""

from collections.abc import Collection, Iterator

import numpy as np

from app.gate.metrics import METRICS, Answers, Floats, Integers, Tally

# Weights of one chunk of resamples: 8 MB, which stays in or near the processor's cache.
CHUNK_WEIGHTS = 1_000_000


def resampled_weights(truth: Integers, resamples: int, seed: int) -> Iterator[Floats]:
    """Chunks (b, n) of `resamples` weightings in all: how often each of the n rows was drawn."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    strata = [np.flatnonzero(truth == label) for label in np.unique(truth)]
    chunk = max(1, min(resamples, CHUNK_WEIGHTS // n))
    for first in range(0, resamples, chunk):
        yield _draw(strata, n, min(chunk, resamples - first), rng)


def paired_intervals(
    names: Collection[str],
    candidate: Answers,
    incumbent: Answers,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Percentile interval of candidate minus incumbent, by metric. Both answer the same rows, in one order.

    Costs about 25 ns a row and resample for the runbook's metrics: half a second for 2,000 of 10,000 rows.
    """
    differences: dict[str, list[Floats]] = {name: [] for name in names}
    for weights in resampled_weights(candidate.truth, resamples, seed):
        mine, theirs = Tally(candidate, weights), Tally(incumbent, weights)
        for name in names:
            differences[name].append(METRICS[name](mine) - METRICS[name](theirs))
    return {name: _percentiles(np.concatenate(chunks), confidence) for name, chunks in differences.items()}


def _draw(strata: list[Integers], n: int, count: int, rng: np.random.Generator) -> Floats:
    """(count, n) weights. Counting drawn row numbers is six times as fast as the generator's multinomial."""
    drawn = [rows[rng.integers(len(rows), size=(count, len(rows)))] for rows in strata]
    cells = np.concatenate(drawn, axis=1) + n * np.arange(count)[:, None]
    return np.bincount(cells.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def _percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
