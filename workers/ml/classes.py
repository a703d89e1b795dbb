"""Classes: which there are and in which order, whether there are rows enough, what to do about imbalance."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from app.runtimes.schema import Label
from workers.pipeline import PipelineError

Indices = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
ClassWeight = Literal["balanced", "none"]
Resampling = Literal["none", "smote"]


def labels_of(column: pa.ChunkedArray, positive: Any) -> tuple[Label, ...]:
    """The distinct values of a label column, sorted, of their own type; of two, the positive one is the last.

    `positive` None leaves the order as it is. Raises PipelineError `unsupported_column` for labels that are
    no names (times, lists, fractions) or a positive class that is not among them.
    """
    labels = sorted(pc.unique(_plain(column)).drop_null().to_pylist())
    if any(isinstance(label, float) and not label.is_integer() for label in labels):
        raise _unsupported("The label column holds fractions, and a classifier predicts names")
    if positive is None or not labels:
        return tuple(labels)
    if positive not in labels:
        raise _unsupported(f"data.positive is {positive!r}, and the labels are {_listed(labels)}")
    return (*(label for label in labels if label != positive), positive) if len(labels) == 2 else tuple(labels)


def indices_of(column: pa.ChunkedArray, labels: tuple[Label, ...]) -> Indices:
    """Where each row's label stands in `labels`; -1 for a missing label and for one that is not there."""
    plain = _plain(column)
    found = pc.index_in(plain, value_set=pa.array(labels, type=plain.type), skip_nulls=True)
    indices: Indices = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return indices


def require_enough(train: Indices, validation: Indices, labels: tuple[Label, ...]) -> None:
    """Raises PipelineError where nothing can be learnt: no rows, one class only, a class of a single row."""
    rows = f"{len(train)} training and {len(validation)} validation rows"
    if not len(train) or not len(validation):
        raise PipelineError("insufficient_data", f"There are {rows} with a label.", "Gather more labelled rows.")
    if len(labels) < 2:
        raise PipelineError(
            "insufficient_data",
            f"All {len(train)} training rows have the label {labels[0]!r}: there is nothing to tell apart.",
            "Gather rows of another class, or check data.label.",
        )
    counts = np.bincount(train, minlength=len(labels))
    if counts.min() < 2:
        raise PipelineError(
            "data_imbalance",
            f"Of {len(train)} training rows, {counts.min()} has the label {labels[counts.argmin()]!r}.",
            "Gather more rows of it; from two on, training.class_weight 'balanced' or training.resampling "
            "'smote' makes them count.",
        )
    if len(labels) == 2 and len(np.unique(validation)) < 2:
        absent = labels[1 - int(validation[0])]
        raise PipelineError(
            "insufficient_data",
            f"None of {len(validation)} validation rows has the label {absent!r}: they choose the threshold.",
            "Gather more rows of it, or raise split.validation.",
        )


def balanced_weights(classes: Indices, count: int) -> npt.NDArray[np.float64]:
    """The weight of each class, n / (k · n_class): every class counts alike in the loss."""
    weights: npt.NDArray[np.float64] = len(classes) / (count * np.bincount(classes, minlength=count))
    return weights


def oversample(features: Matrix, classes: Indices, seed: int) -> tuple[Matrix, Indices]:
    """Grows every class to the size of the largest: by SMOTE (Chawla et al. 2002), or by copies where a class
    has one row and so no neighbour."""
    from imblearn.over_sampling import SMOTE, RandomOverSampler

    smallest = int(np.unique(classes, return_counts=True)[1].min())
    if smallest < 2:
        sampler = RandomOverSampler(random_state=seed)
    else:
        sampler = SMOTE(k_neighbors=min(5, smallest - 1), random_state=seed)
    grown, grown_classes = sampler.fit_resample(features, classes)
    return grown.astype(np.float32), grown_classes


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kinds = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise _unsupported(f"The label column is of type {column.type}, and a classifier predicts names")
    return pc.if_else(pc.is_nan(column), None, column) if types.is_floating(column.type) else column


def _unsupported(message: str) -> PipelineError:
    return PipelineError("unsupported_column", f"{message}.", "Correct data.label and data.positive.")


def _listed(labels: list[Label]) -> str:
    return ", ".join(repr(label) for label in labels[:10]) + (" …" if len(labels) > 10 else "")
