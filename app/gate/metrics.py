"""What is measured, by name. A metric reads a Tally of b weightings and answers (b,); METRICS lists them.

Precision, recall and F1 of two labels are those of the second, the positive one, by the predicted labels (the
runtime has applied the threshold); of more labels, the unweighted mean over them. A share of nothing, such as
the precision of a label that was never predicted, is 0, as with scikit-learn's `zero_division=0`; an AUC
without rows of both kinds is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.gate.tally import Answers, Floats, Tally, one_hot

# Probabilities are float32: what is nearer to 0 or 1 than this was rounded there.
EPSILON = float(np.finfo(np.float32).eps)

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
    errors = np.sum((answers.probabilities - one_hot(answers.truth, k)) ** 2, axis=1)
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


def _share(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares
