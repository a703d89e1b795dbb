"""What is measured, by name. A metric reads a Tally of b weightings and answers (b,); METRICS lists them.

Precision, recall and F1 of two labels are those of the second, the positive one, by the predicted labels (the
runtime has applied the threshold); of more labels, the unweighted mean over them. A share of nothing, such as
the precision of a label that was never predicted, is 0, as with scikit-learn's `zero_division=0`; an AUC
without rows of both kinds is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.floating[Any]]

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
        kinds = [_one_hot(indices, self.labels) for indices in (self.truth, self.predicted, right)]
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
        truth = _one_hot(answers.truth, k)
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


Metric = Callable[[Tally], Floats]
ByLabel = Callable[[Tally, Sequence[int]], Floats]


def precisions(tally: Tally, labels: Sequence[int]) -> Floats:
    """TP / (TP + FP) of each label."""
    return _share(tally.hits[:, labels], tally.predicted[:, labels])


def recalls(tally: Tally, labels: Sequence[int]) -> Floats:
    """TP / (TP + FN) of each label."""
    return _share(tally.hits[:, labels], tally.actual[:, labels])


def f1s(tally: Tally, labels: Sequence[int]) -> Floats:
    """2 TP / (2 TP + FP + FN) of each label, the harmonic mean of precision and recall (van Rijsbergen 1979)."""
    return _share(2 * tally.hits[:, labels], (tally.predicted + tally.actual)[:, labels])


def areas(tally: Tally, labels: Sequence[int]) -> Floats:
    """Area under the ROC curve of each label against the rest (Fawcett 2006)."""
    return np.column_stack([_auc(tally, label) for label in labels])


# By label, of which the mean is taken over all or some.
BY_LABEL: dict[str, ByLabel] = {
    "f1": f1s,
    "precision": precisions,
    "recall": recalls,
    "balanced_accuracy": recalls,  # for two labels too the mean over both (Brodersen et al. 2010)
    "auc_roc": areas,
}


# What may be asked of one class.
OF_ONE_CLASS = ("f1", "precision", "recall", "auc_roc")


def headline(name: str, k: int) -> tuple[int, ...]:
    """The labels that a figure speaks of by itself: the positive one where there are two, else all."""
    return (1,) if k == 2 and name != "balanced_accuracy" else tuple(range(k))


def accuracy(tally: Tally) -> Floats:
    """Share of rows that were given their label."""
    return _share(tally.hits.sum(axis=1), tally.actual.sum(axis=1))


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


def _headline(name: str) -> Metric:
    return lambda tally: over(name, tally, headline(name, tally.answers.labels))


METRICS: dict[str, Metric] = {
    "f1": _headline("f1"),
    "precision": _headline("precision"),
    "recall": _headline("recall"),
    "auc_roc": _headline("auc_roc"),
    "accuracy": accuracy,
    "balanced_accuracy": _headline("balanced_accuracy"),
    "log_loss": log_loss,
    "brier": brier,
}

# What the labels that were given decide alone, whatever the probabilities.
COUNTED = frozenset({"f1", "precision", "recall", "accuracy", "balanced_accuracy"})


@dataclass(frozen=True)
class Measure:
    """A metric of all labels, or of `labels` alone: of one, or the mean over several."""

    metric: str
    labels: tuple[int, ...] | None = None

    def of(self, tally: Tally) -> Floats:
        """(b,)."""
        return METRICS[self.metric](tally) if self.labels is None else over(self.metric, tally, self.labels)

    def quickly(self, tally: Tally) -> Floats:
        """(b,). The same, with areas to the first order in the weights: right where rows are many."""
        if self.metric != "auc_roc":
            return self.of(tally)
        labels = headline("auc_roc", tally.answers.labels) if self.labels is None else self.labels
        means: Floats = tally.areas[:, list(labels)].mean(axis=1)
        return means


def over(name: str, tally: Tally, labels: Sequence[int]) -> Floats:
    """The mean of a figure over `labels`, (b,)."""
    means: Floats = BY_LABEL[name](tally, list(labels)).mean(axis=1)
    return means


def point_estimates(answers: Answers) -> dict[str, float]:
    """Every metric of the answers, each row counted once. NaN where there is nothing to measure."""
    tally = Tally(answers, np.ones((1, len(answers))))
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
    weights = tally.weights.astype(np.float64)
    running = np.pad(np.cumsum(weights[:, others], axis=1), ((0, 0), (1, 0)))
    below = running[:, np.searchsorted(scores[others], scores[of_label], "left")]
    not_above = running[:, np.searchsorted(scores[others], scores[of_label], "right")]
    mine = weights[:, of_label]
    won = np.einsum("bi,bi->b", mine, below + not_above) / 2
    pairs = mine.sum(axis=1) * running[:, -1]
    areas: Floats = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return areas


def _below(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others below it; a tie counts half."""
    ranked = np.sort(others)
    places = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    shares: Floats = places / (2 * len(ranked))
    return shares


def _one_hot(indices: Integers, k: int) -> Floats:
    """(n,) → (n, k); a row of zeros for an index that is none of the k."""
    return np.asarray(indices[:, None] == np.arange(k), np.float64)


def _share(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares
