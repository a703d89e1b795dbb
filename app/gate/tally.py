"""What a version answered, and how it counts under weightings of the rows: what every metric is read from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Answers:
    """What one version answers to n rows, beside the truth, in the k labels of the candidate.

    truth (n,) in 0 … k-1; predicted (n,) likewise, or -1 for a label that is none of the k;
    probabilities (n, k), finite.
    """

    truth: Integers
    predicted: Integers
    probabilities: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Integers) -> "Answers":
        return Answers(self.truth[rows], self.predicted[rows], self.probabilities[rows])

    @property
    def labels(self) -> int:
        """k."""
        return int(self.probabilities.shape[1])

    @cached_property
    def design(self) -> Weights:
        """(n, 3k) of 0 and 1: the row has the label, was given it, was rightly given it."""
        right = np.where(self.truth == self.predicted, self.truth, -1)
        kinds = [one_hot(indices, self.labels) for indices in (self.truth, self.predicted, right)]
        return np.concatenate(kinds, axis=1).astype(np.float32)

    @cached_property
    def placements(self) -> Weights:
        """(n, 2k): for rows of a label the share of the others that score below it; then, for the others, of the
        label's rows that score above. 0 elsewhere. The structural components of DeLong et al. 1988."""
        placed = np.zeros((len(self), 2 * self.labels), np.float32)
        for label in range(self.labels):
            of_label = self.truth == label
            scores = self.probabilities[:, label]
            if 0 < of_label.sum() < len(self):
                placed[of_label, label] = _below(scores[of_label], scores[~of_label])
                placed[~of_label, self.labels + label] = 1 - _below(scores[~of_label], scores[of_label])
        return placed


@dataclass(frozen=True)
class Tally:
    """Answers under b weightings: in weighting r, row i counts weights[r, i] times. Weights (b, n).

    `unseen` (b, 3k), where given, are counts as of `Answers.design` of rows that might have been there.
    """

    answers: Answers
    weights: Weights
    unseen: Floats | None = None

    @property
    def actual(self) -> Floats:
        """Rows of each label, (b, k)."""
        return self._all[:, : self.answers.labels]

    @property
    def predicted(self) -> Floats:
        """Rows that were given each label, (b, k)."""
        return self._all[:, self.answers.labels : 2 * self.answers.labels]

    @property
    def hits(self) -> Floats:
        """Rows that were rightly given each label, (b, k)."""
        return self._all[:, 2 * self.answers.labels :]

    @cached_property
    def areas(self) -> Floats:
        """The area under each label's ROC curve, to the first order in the weights, (b, k).

        NaN without rows of both kinds. It is the mean placement of the label's rows and that of the others, less the
        area itself. What the weights change beyond that is the degenerate part of a U-statistic (Hoeffding 1948), of
        the order of 1/n beside 1/sqrt(n).
        """
        answers, k = self.answers, self.answers.labels
        sums = (self.weights @ answers.placements.astype(self.weights.dtype, copy=False)).astype(np.float64)
        of_label = self._counts[:, :k]
        others = of_label.sum(axis=1, keepdims=True) - of_label
        truth = one_hot(answers.truth, k)
        with np.errstate(invalid="ignore", divide="ignore"):
            area = answers.placements[:, :k].sum(axis=0, dtype=np.float64) / truth.sum(axis=0)
            areas: Floats = sums[:, :k] / of_label + sums[:, k:] / others - area
        areas[~np.isfinite(areas)] = np.nan
        return areas

    def mean(self, losses: Floats) -> Floats:
        """The mean of one figure a row, (n,) → (b,)."""
        means: Floats = self.weights @ losses.astype(self.weights.dtype) / self.weights.sum(axis=1)
        return means.astype(np.float64)

    @cached_property
    def _all(self) -> Floats:
        return self._counts if self.unseen is None else self._counts + self.unseen

    @cached_property
    def _counts(self) -> Floats:
        # Whole numbers below 2^24 are exact in float32.
        counts: Floats = (self.weights @ self.answers.design.astype(self.weights.dtype, copy=False)).astype(np.float64)
        return counts


def one_hot(indices: Integers, k: int) -> Floats:
    """(n,) → (n, k); a row of zeros for an index that is none of the k."""
    return np.asarray(indices[:, None] == np.arange(k), np.float64)


def _below(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others below it; a tie counts half."""
    ranked = np.sort(others)
    places = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    shares: Floats = places / (2 * len(ranked))
    return shares
