"""Figures of a classifier on rows whose class is known."""

import math

import numpy as np
import numpy.typing as npt

from workers.ml.classes import Indices

Probabilities = npt.NDArray[np.floating]


def auc_roc(classes: Indices, probabilities: Probabilities) -> float:
    """Area under the ROC curve. Of more than two classes: the mean of each against the rest.

    A class that no row has, or every row, is left out of the mean; NaN where no class remains.
    """
    from sklearn.metrics import roc_auc_score

    count = probabilities.shape[1]
    areas = [
        roc_auc_score(classes == each, probabilities[:, each])
        for each in range(1 if count == 2 else 0, count)
        if 0 < np.count_nonzero(classes == each) < len(classes)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def figures(classes: Indices, predicted: Indices, probabilities: Probabilities) -> dict[str, float]:
    """f1, precision, recall and auc_roc: of two classes the positive one's, else the mean over all.

    Without auc_roc where it cannot be measured.
    """
    from sklearn.metrics import precision_recall_fscore_support

    binary = probabilities.shape[1] == 2
    precision, recall, f1, _ = precision_recall_fscore_support(
        classes, predicted, average="binary" if binary else "macro", zero_division=0.0
    )
    area = auc_roc(classes, probabilities)
    measured = {} if math.isnan(area) else {"auc_roc": area}
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall), **measured}
