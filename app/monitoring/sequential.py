"""Tests that hold however often one looks: wealth won by betting against a promise.

A promise says that a bounded figure of a row, x, has a mean of at least 0. Whoever stakes the share λ of their wealth
against it on each row has Π (1 - λ x) after some rows. While the promise holds, that wealth is a nonnegative
supermartingale which began at 1, so the probability that it ever reaches 1 / α is at most α, however many looks are
taken and whenever one stops (Ville 1939; Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by
betting, J. R. Stat. Soc. B 86). The wealth here is the mean over a fixed grid of stakes. So it depends on how often
each value came and not on the order: it is computed anew from counts at every look, and whoever has the counts can
check it.

Rows are taken to be exchangeable; the rows of one request often are not quite.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Shares of the largest stake that can never lose everything. Small ones find small breaches, with more rows.
STAKES: Floats = 0.99 * np.geomspace(1e-3, 1.0, 16)


def wealth(values: Sequence[float], counts: Sequence[int]) -> float:
    """The logarithm of the wealth after x took each of `values` (m,) as often as `counts` (m,) says."""
    x, times = np.asarray(values, np.float64), np.asarray(counts, np.float64)
    stakes = STAKES / max(x.max(), 1e-9)
    return log_mean(np.log1p(-np.outer(stakes, x)) @ times)


def log_mean(logs: npt.ArrayLike) -> float:
    """ln of the mean of e^logs. A mean of wealths is a wealth, whatever they were won on."""
    values = np.asarray(logs, np.float64)
    top = float(values.max())
    return top + math.log(float(np.mean(np.exp(values - top))))


def share_at_least(promised: float, hits: int, n: int) -> float:
    """Against: `hits` come in at least the promised share of rows."""
    return wealth([1 - promised, -promised], [hits, n - hits])


def share_at_most(promised: float, hits: int, n: int) -> float:
    """Against: `hits` come in at most the promised share of rows."""
    return wealth([promised - 1, promised], [hits, n - hits])


def f1_at_least(promised: float, hits: int, misses: int) -> float:
    """Against: F1 is at least `promised`. `hits` are true positives, `misses` false positives and false negatives.

    2 TP / (2 TP + FP + FN) >= c is the same as E[x] >= 0 with x = 2 - 2c of a true positive, -c of a false positive or
    negative, and 0 of any other row: a promise about a ratio is one about a mean.
    """
    return wealth([2 - 2 * promised, -promised], [hits, misses])


def deviation(reference: Sequence[int], counts: Sequence[int]) -> float:
    """The largest distance between both distribution functions at the bins' edges (Kolmogorov's statistic)."""
    ours, theirs = (np.cumsum(each) / max(1, sum(each)) for each in (counts, reference))
    return float(np.max(np.abs(ours - theirs)))


def radius(n: int, false_alarms: float) -> float:
    """How far the distribution function of n rows ever strays from the true one, but for a share of `false_alarms`.

    .85 √((ln ln(e n) + .8 ln(1612 / α)) / n), uniformly over all n and all thresholds (Howard & Ramdas 2022, Sequential
    estimation of quantiles with applications to A/B testing, Bernoulli 28(3), corollary 2).
    """
    if n < 1:
        return 1.0
    return 0.85 * math.sqrt((math.log(math.log(math.e * n)) + 0.8 * math.log(1612 / false_alarms)) / n)


def f1_lower_bound(hits: int, misses: int, doubt: float) -> float:
    """What F1 is at least, but for a share of `doubt`, after a fixed number of rows.

    TP / (TP + FP + FN) is a share of independent rows, bounded by Wilson's score interval (1927); F1 = 2 J / (1 + J).
    """
    share = share_lower_bound(hits, hits + misses, doubt)
    return 2 * share / (1 + share)


def f1_upper_bound(hits: int, misses: int, doubt: float) -> float:
    """What F1 is at most, but for a share of `doubt`, after a fixed number of rows."""
    share = share_upper_bound(hits, hits + misses, doubt)
    return 2 * share / (1 + share)


def share_lower_bound(hits: int, n: int, doubt: float) -> float:
    """Wilson's one-sided lower bound of a share (Wilson 1927)."""
    return _wilson(hits, n, doubt, -1)


def share_upper_bound(hits: int, n: int, doubt: float) -> float:
    """Wilson's one-sided upper bound of a share (Wilson 1927)."""
    return _wilson(hits, n, doubt, +1)


def _wilson(hits: int, n: int, doubt: float, side: int) -> float:
    if not n:
        return 0.0 if side < 0 else 1.0
    z = NormalDist().inv_cdf(1 - doubt)
    share = hits / n
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(1.0, max(0.0, (middle + side * spread) / (1 + z * z / n)))
