"""The reference profile: how columns, scores and labels were distributed when the version was trained.

It travels in the artifact as `profile.json`, so that drift is measured against what this very version learnt:

    {"rows": 31684,                                               how many training rows
     "columns": {"age": {"kind": "numeric", …}, "job": {"kind": "categorical", …}},   of the training rows
     "heads": {"bought": {
         "scores": {"kind": "numeric", …},                        of the validation rows
         "labels": [{"label": "yes", "share": 0.113, "predicted": 0.121}, …]}}}

Of a text the column is `@characters`, how many it has.

    numeric      edges      ascending and frozen. Bin i holds edges[i-1] <= x < edges[i]; the first and the
                            last bin are open
                 counts     by bin, so one more than edges
                 missing, min, max, mean     the last three null where every value is missing
    categorical  counts     by category, the 64 most frequent
                 other, missing
    labels       share      of the training rows that have the label
                 predicted  share of the validation rows that the version gives it

Edges are the deciles of the column, so that each bin holds about a tenth, as the population stability index
wants it. A value that fills several deciles (a constant, an inflated zero) gets a bin of its own: what moves
away from it is seen.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.runtimes import Batch, Prediction
from app.runtimes.schema import Head, InputSchema
from workers.ml.classes import Indices, Matrix

BINS = 10
MOST_CATEGORIES = 64


def profile(
    schema: InputSchema, train: Batch, classes: Sequence[Indices], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """The profile as JSON values.

    `classes` are those of the training rows, `predictions` those of the validation rows by the published model: one a
    head, a row without a label left out.
    """
    every = zip(schema.heads, classes, predictions, strict=True)
    return {
        "rows": len(train),
        "columns": _texts(train.texts) if train.texts is not None else _columns(schema, train),
        "heads": {
            head.name: {"scores": _numeric(prediction.scores), "labels": _labels(head, known, prediction.indices)}
            for head, known, prediction in every
        },
    }


def edges_of(known: Matrix) -> Matrix:
    """The inner bin edges of a column without missing values."""
    deciles = np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf")
    values, times = np.unique(deciles, return_counts=True)
    edges: Matrix = np.union1d(values, np.nextafter(values[times > 1], np.float32(np.inf)))
    return edges


def _columns(schema: InputSchema, batch: Batch) -> dict[str, Any]:
    numeric = {name: _numeric(batch.numeric[:, i]) for i, name in enumerate(schema.numeric)}
    categorical = {name: _categorical(batch.categorical[:, i]) for i, name in enumerate(schema.categorical)}
    columns = numeric | categorical
    return {column.name: columns[column.name] for column in schema.columns}


def _texts(texts: npt.NDArray[np.object_]) -> dict[str, Any]:
    return {"@characters": _numeric(np.array([len(text) for text in texts], np.float32))}


def _numeric(column: Matrix) -> dict[str, Any]:
    known = column[~np.isnan(column)]
    missing = len(column) - len(known)
    if not len(known):
        return {"kind": "numeric", "edges": [], "counts": [0], "missing": missing} | dict.fromkeys(
            ("min", "max", "mean")
        )
    edges = edges_of(known)
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return {
        "kind": "numeric",
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "missing": missing,
        "min": float(known.min()),
        "max": float(known.max()),
        "mean": float(known.mean(dtype=np.float64)),
    }


def _categorical(column: npt.NDArray[np.object_]) -> dict[str, Any]:
    counted = Counter(column.tolist())
    missing = counted.pop("", 0)
    frequent = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MOST_CATEGORIES])
    other = counted.total() - sum(frequent.values())
    return {"kind": "categorical", "counts": frequent, "other": other, "missing": missing}


def _labels(head: Head, classes: Indices, predicted: Indices) -> list[dict[str, Any]]:
    count = len(head.labels)
    true, guessed = (np.bincount(found, minlength=count) / len(found) for found in (classes, predicted))
    return [
        {"label": label, "share": float(true[i]), "predicted": float(guessed[i])} for i, label in enumerate(head.labels)
    ]
