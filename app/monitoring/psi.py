"""The population stability index, and how much of it is nothing but a small sample.

    PSI = Σ (a - e) ln(a / e)        over the bins; e: share in the reference, a: share now

Two samples of one population, of m and n rows in b bins, have a PSI of about (b - 1)(1/m + 1/n) with a standard error
of √(2 (b - 1)) (1/m + 1/n): (1/m + 1/n) times a chi-square of b - 1 degrees of freedom (Yurdakul & Naranjo 2020,
Statistical properties of the population stability index, Journal of Risk Model Validation 14(4)). With 200 rows in ten
bins that is .045 of drift where there is none, so the expected value is subtracted, and what remains must be more than
its error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

# A bin without rows would make the index infinite; half a row in each keeps it finite (Jeffreys' prior).
PRIOR = 0.5
# Standard errors that an excess must have to be called drift. A chi-square's tail is heavier than the normal's: with
# ten bins this is passed by chance less than once in a thousand windows.
ERRORS = 4.0


@dataclass(frozen=True)
class Shift:
    """How far one column, or the mean of several, moved. `excess` is the index less its expected value."""

    psi: float
    excess: float
    error: float

    def is_beyond(self, limit: float) -> bool:
        return self.excess > max(limit, ERRORS * self.error)


def shift(reference: Counts, now: Counts) -> Shift:
    """Of one column: rows by bin, (b,) each, in the reference and now. Bins that are empty in both do not count."""
    used = (reference > 0) | (now > 0)
    m, n, bins = int(reference.sum()), int(now.sum()), int(used.sum())
    if not m or not n or bins < 2:
        return Shift(0.0, 0.0, 0.0)
    expected, actual = (_shares(counts[used], bins) for counts in (reference, now))
    index = float(np.sum((actual - expected) * np.log(actual / expected)))
    scale = 1 / m + 1 / n
    return Shift(index, index - (bins - 1) * scale, sqrt(2 * (bins - 1)) * scale)


def aggregate(columns: Mapping[str, Shift]) -> Shift:
    """The mean over the columns. Its error is that of columns which all move together: the largest it can be. A column
    that moved less than chance lets expect takes nothing from the others."""
    if not columns:
        return Shift(0.0, 0.0, 0.0)
    means = np.mean([(each.psi, max(0.0, each.excess), each.error) for each in columns.values()], axis=0)
    return Shift(*map(float, means))


def _shares(counts: Counts, bins: int) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = (counts + PRIOR) / (counts.sum() + PRIOR * bins)
    return shares
