"""The decision threshold of a binary classifier, chosen on rows that it has not learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.gate.criteria import Criterion

# Room above a floor protects against a holdout that differs from the validation rows; more than this is
# better spent on F1.
ROOM = 0.05


@dataclass(frozen=True)
class Threshold:
    """A row is positive where score >= value; the rest are the figures on the rows it was chosen on."""

    value: float
    f1: float
    precision: float
    recall: float


def choose(
    scores: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_], requirements: Mapping[str, Criterion]
) -> Threshold:
    """The threshold that aims at the floors (`min`) which the gate sets for f1, precision and recall.

    It maximises the smallest slack over the floors, min(figure − floor), counted up to five points; among
    equals, and where there is no floor at all, the best F1 decides. Maximising F1 alone spends all room on
    one side: on a stream where precision and recall trade off, the holdout then misses the other floor by a
    hair.

    Candidates lie halfway between neighbouring scores, as far as possible from any row. At least one row is
    positive.
    """
    values, curves = _curves(scores, positive)
    slacks = [curves[name] - c.min for name, c in requirements.items() if name in curves and c.min is not None]
    smallest = np.minimum.reduce([np.full(len(values), ROOM), *slacks])
    best = np.lexsort((curves["f1"], smallest))[-1]
    return Threshold(float(values[best]), **{name: float(curve[best]) for name, curve in curves.items()})


def _curves(
    scores: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float64]]]:
    """Every threshold that tells two rows apart, descending, and the figures at each."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # A threshold cannot separate rows of equal score: the last of them stands for all.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(positive[order])[last]
    precision = hits / (last + 1)
    recall = hits / hits[-1]
    f1 = 2 * hits / (last + 1 + hits[-1])
    below = np.append(ranked[last[1:]], np.float32(0))
    # Rounded to float32, halfway may fall on the score below, which would turn positive: then the score
    # itself.
    halfway = (ranked[last] + below) / np.float32(2)
    values = np.where(halfway > below, halfway, ranked[last])
    return values, {"f1": f1, "precision": precision, "recall": recall}
