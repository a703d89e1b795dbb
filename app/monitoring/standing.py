"""How a version stands by the labels that came back: from a confusion matrix to the metrics of the gate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.feedback.outcomes import Outcomes

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Standing:
    """Rows of each of k labels that are `actual`ly so, were `given` so, and both."""

    actual: Counts
    given: Counts
    hits: Counts

    @classmethod
    def of(cls, told: Outcomes) -> "Standing":
        return cls(told.confusion.sum(axis=1), told.confusion.sum(axis=0), np.diag(told.confusion))

    @property
    def labels(self) -> int:
        return int(self.actual.sum())

    def numbers(self) -> dict[str, Any]:
        """The metrics as the gate has them (app/gate/metrics.py); of two labels those of the second.

        `hits` and `misses` are its true positives and its false ones, null where there are more labels.
        """
        both = self.actual + self.given
        binary = len(self.actual) == 2
        return {
            "labels": self.labels,
            "right": int(self.hits.sum()),
            "hits": int(self.hits[1]) if binary else None,
            "misses": int(both[1] - 2 * self.hits[1]) if binary else None,
            "f1": self._headline(2 * self.hits, both),
            "precision": self._headline(self.hits, self.given),
            "recall": self._headline(self.hits, self.actual),
            "accuracy": float(self.hits.sum() / max(1, self.labels)),
        }

    def _headline(self, part: Counts, whole: Counts) -> float:
        shares = part / np.maximum(whole, 1)
        return float(shares[1] if len(shares) == 2 else shares.mean() if len(shares) else 0.0)
