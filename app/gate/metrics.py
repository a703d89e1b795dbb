"""What is measured, by name. A metric reads a Tally of b weightings and answers (b,); METRICS lists them.

Precision, recall and F1 of two labels are those of the second, the positive one, by the predicted labels (the
runtime has applied the threshold); of more labels, the unweighted mean over them. A share of nothing, such as
the precision of a label that was never predicted, is 0, as with scikit-learn's `zero_division=0`; an AUC
without rows of both kinds is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Probabilities are float32: what is nearer to 0 or 1 than this was rounded there.
EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Answers:
    """What one version answers to n rows, beside the truth, in the k labels of the candidate.

    truth (n,) in 0 … k-1; predicted (n,) likewise, or -1 for a label that is none of the k;
    probabilities (n, k), finite.
    """

    truth: Integers
    predicted: Integers
    probabilities: Floats


@dataclass(frozen=True)
class Tally:
    """Answers under b weightings: in weighting r, row i counts weights[r, i] times. Weights (b, n)."""

    answers: Answers
    weights: Floats

    @cached_property
    def actual(self) -> Floats:
        """Rows of each label, (b, k)."""
        return self._count(self.answers.truth)

    @cached_property
    def predicted(self) -> Floats:
        """Rows that were given each label, (b, k)."""
        return self._count(self.answers.predicted)

    @cached_property
    def hits(self) -> Floats:
        """Rows that were rightly given each label, (b, k)."""
        right = self.answers.truth == self.answers.predicted
        return self._count(np.where(right, self.answers.truth, -1))

    def mean(self, losses: Floats) -> Floats:
        """The mean of one figure a row, (n,) → (b,)."""
        means: Floats = self.weights @ losses / self.weights.sum(axis=1)
        return means

    def _count(self, indices: Integers) -> Floats:
        counts: Floats = self.weights @ _one_hot(indices, self.answers.probabilities.shape[1])
        return counts


Metric = Callable[[Tally], Floats]


def precision(tally: Tally) -> Floats:
    """TP / (TP + FP)."""
    return _headline(_share(tally.hits, tally.predicted))


def recall(tally: Tally) -> Floats:
    """TP / (TP + FN)."""
    return _headline(_share(tally.hits, tally.actual))


def f1(tally: Tally) -> Floats:
    """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall (van Rijsbergen 1979)."""
    return _headline(_share(2 * tally.hits, tally.predicted + tally.actual))


def accuracy(tally: Tally) -> Floats:
    """Share of rows that were given their label."""
    return _share(tally.hits.sum(axis=1), tally.actual.sum(axis=1))


def balanced_accuracy(tally: Tally) -> Floats:
    """Mean recall over all labels, for two labels too (Brodersen et al. 2010)."""
    return _over_labels(_share(tally.hits, tally.actual))


def auc_roc(tally: Tally) -> Floats:
    """Area under the ROC curve; of more than two labels, the mean of each against the rest (Fawcett 2006)."""
    k = tally.answers.probabilities.shape[1]
    labels = [1] if k == 2 else range(k)
    return _over_labels(np.column_stack([_auc(tally, label) for label in labels]))


def log_loss(tally: Tally) -> Floats:
    """Mean of -ln p(true label), with p kept within float32's precision of 0 and 1. Lower is better."""
    answers = tally.answers
    likelihood = answers.probabilities[np.arange(len(answers.truth)), answers.truth]
    return tally.mean(-np.log(np.clip(likelihood, EPSILON, 1 - EPSILON)))


def brier(tally: Tally) -> Floats:
    """Mean squared error of the probabilities (Brier 1950). Lower is better.

    Two labels: of the positive one's, in [0, 1]. More: summed over the labels, in [0, 2].
    """
    answers = tally.answers
    k = answers.probabilities.shape[1]
    errors = np.sum((answers.probabilities - _one_hot(answers.truth, k)) ** 2, axis=1)
    return tally.mean(errors / 2 if k == 2 else errors)


METRICS: dict[str, Metric] = {
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "auc_roc": auc_roc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "log_loss": log_loss,
    "brier": brier,
}


def point_estimates(answers: Answers) -> dict[str, float]:
    """Every metric of the answers, each row counted once. NaN where there is nothing to measure."""
    tally = Tally(answers, np.ones((1, len(answers.truth))))
    return {name: float(metric(tally)[0]) for name, metric in METRICS.items()}


def _auc(tally: Tally, label: int) -> Floats:
    """Share of pairs (a row of the label, a row of another) that the score puts in order; a tie counts half.

    This is the Mann-Whitney statistic (Hanley & McNeil 1982). The rows of other labels are sorted once; the
    running sum of their weights then says, for each row of the label, how much weight lies below its score.
    """
    scores = tally.answers.probabilities[:, label]
    of_label = np.flatnonzero(tally.answers.truth == label)
    others = np.flatnonzero(tally.answers.truth != label)
    others = others[np.argsort(scores[others])]
    running = np.pad(np.cumsum(tally.weights[:, others], axis=1), ((0, 0), (1, 0)))
    below = running[:, np.searchsorted(scores[others], scores[of_label], "left")]
    not_above = running[:, np.searchsorted(scores[others], scores[of_label], "right")]
    weights = tally.weights[:, of_label]
    won = np.einsum("bi,bi->b", weights, below + not_above) / 2
    pairs = weights.sum(axis=1) * running[:, -1]
    areas: Floats = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return areas


def _one_hot(indices: Integers, k: int) -> Floats:
    """(n,) → (n, k); a row of zeros for an index that is none of the k."""
    return np.asarray(indices[:, None] == np.arange(k), np.float64)


def _share(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares


def _headline(by_label: Floats) -> Floats:
    """(b, k) → (b,): the positive label's where there are two, else the mean."""
    return by_label[:, 1] if by_label.shape[1] == 2 else _over_labels(by_label)


def _over_labels(by_label: Floats) -> Floats:
    means: Floats = by_label.mean(axis=1)
    return means
