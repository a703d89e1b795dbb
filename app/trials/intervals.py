"""Intervals of what was counted: proportions, their differences, and F1."""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from app.feedback.same_rows import SameRows, confusions
from app.trials.schemas import Estimate

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 0
# Of confusion matrices at once, 8 bytes each.
MOST_CELLS = 2**22

Confusion = npt.NDArray[np.int64]


def proportion(k: int, n: int) -> Estimate:
    """k of n, with Wilson's score interval (Wilson 1927, JASA 22:209-212): it stays in [0, 1], also at k = 0."""
    if not n:
        return Estimate(value=None, low=None, high=None, n=0)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = k / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n=n)


def difference(standby: Estimate, active: Estimate, phi: float = 0.0) -> Estimate:
    """Of two proportions: the hybrid score interval, made of both Wilson intervals. Of independent ones Newcombe 1998,
    Statistics in Medicine 17:873-890, method 10; of the same rows, with their `phi`, 17:2635-2650, method 10."""
    a, b = standby, active
    if a.value is None or b.value is None or a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(value=None, low=None, high=None, n=0)
    gap = a.value - b.value
    low = gap - _length(a.value - a.low, b.high - b.value, phi)
    high = gap + _length(a.high - a.value, b.value - b.low, phi)
    return Estimate(value=gap, low=low, high=high, n=min(a.n, b.n))


def phi(same: SameRows) -> float:
    """The correlation of being right, corrected for continuity: Newcombe 1998, 17:2635-2650, method 10."""
    truth, active, standby, n = same.cells.T
    new, old = standby == truth, active == truth
    both, gained, lost, neither = (int(n[where].sum()) for where in (new & old, new & ~old, ~new & old, ~new & ~old))
    together = both * neither - gained * lost
    spread = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    corrected = together if together < 0 else max(0.0, together - int(n.sum()) / 2)
    return float(corrected / spread**0.5) if spread else 0.0


def f1_of(confusion: Confusion) -> npt.NDArray[np.float64]:
    """(…, k, k) or (…, k, k + 1), truth by prediction → (…,): of the second label where there are two, else the mean
    over the labels."""
    labels = confusion.shape[-2]
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)[..., :labels]
    scores = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
    means: npt.NDArray[np.float64] = scores[..., 1] if labels == 2 else scores.mean(axis=-1)
    return means


def f1(confusion: Confusion) -> Estimate:
    """With the percentile interval of the bootstrap (Efron & Tibshirani 1993, §13): rows drawn again, that is, the
    cells of the confusion matrix by a multinomial. Seeded."""
    n = int(confusion.sum())
    if not n:
        return Estimate(value=None, low=None, high=None, n=0)
    return _estimate(float(f1_of(confusion)), _f1_draws(confusion, SEED), n)


def f1_difference(standby: Confusion, active: Confusion) -> Estimate:
    """Of two independent samples of rows: the percentile interval of the bootstrap's differences. Null where the
    versions know different labels."""
    n = int(min(standby.sum(), active.sum()))
    if not n or standby.shape != active.shape:
        return Estimate(value=None, low=None, high=None, n=0)
    gap = float(f1_of(standby) - f1_of(active))
    return _estimate(gap, _f1_draws(standby, SEED) - _f1_draws(active, SEED + 1), n)


def f1_difference_of_same_rows(same: SameRows) -> Estimate:
    """The percentile interval of the bootstrap, where each row is drawn with what both versions said of it."""
    truth, active, standby, n = same.cells.T
    rows = int(n.sum())
    if not rows:
        return Estimate(value=None, low=None, high=None, n=0)
    labels, draw = len(same.labels), np.random.default_rng(SEED)

    def gaps(drawn: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        new, old = (f1_of(confusions(truth, said, drawn, labels)) for said in (standby, active))
        return new - old

    parts = _parts(labels * (labels + 1))
    drawn = np.concatenate([gaps(draw.multinomial(rows, n / rows, size=size)) for size in parts])
    return _estimate(float(gaps(n[None])[0]), drawn, rows)


def _length(one: float, other: float, phi: float) -> float:
    """sqrt(one² + other² - 2 φ one other), which rounding does not make negative."""
    return float(((one - other) ** 2 + 2 * (1 - phi) * one * other) ** 0.5)


def _f1_draws(confusion: Confusion, seed: int) -> npt.NDArray[np.float64]:
    """In parts: with hundreds of labels all draws at once would take gigabytes."""
    n, draw = int(confusion.sum()), np.random.default_rng(seed)
    found = []
    for size in _parts(confusion.size):
        drawn = draw.multinomial(n, confusion.ravel() / n, size=size)
        found.append(f1_of(drawn.reshape(size, *confusion.shape)))
    return np.concatenate(found)


def _parts(cells: int) -> Iterator[int]:
    """RESAMPLES, in parts of so many draws as have MOST_CELLS at once."""
    at_once = max(1, MOST_CELLS // cells)
    for begun in range(0, RESAMPLES, at_once):
        yield min(at_once, RESAMPLES - begun)


def _estimate(value: float, draws: npt.NDArray[np.float64], n: int) -> Estimate:
    tails: Sequence[float] = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Estimate(value=value, low=tails[0], high=tails[1], n=n)
