"""Many answers of one version → the vector of its layout, in bulk.

Numbers are counted by comparing a whole column with each edge, which takes a tenth of a search for each value.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.runtimes import Batch, Prediction
from app.runtimes.schema import InputSchema
from app.traffic.layout import CHARACTERS, LATENCY, TOTALS, Layout, kept

Counts = npt.NDArray[np.int64]
EDGES = np.array(LATENCY)
# Up to so many are counted one after the other, which is faster than all at once.
FEW_LABELS = 16


class Seen:
    """The rows and scores of some requests, as arrays with room for so many rows."""

    def __init__(self, schema: InputSchema, room: int) -> None:
        self.room, self.rows = room, 0
        self.numeric = np.empty((room, len(schema.numeric)), np.float32)
        self.scores = [np.empty(room, np.float32) for _ in schema.heads]
        self.categorical: list[npt.NDArray[np.object_]] = []
        self.texts: list[npt.NDArray[np.object_]] = []

    def add(self, rows: int, batch: Batch, predictions: Sequence[Prediction]) -> None:
        """As many of the rows, from the first on, as there is room for."""
        fitting = min(rows, self.room)
        first, last = self.rows, self.rows + fitting
        self.room -= fitting
        self.rows = last
        if fitting < rows:
            batch = batch.take(np.arange(fitting))
        self.numeric[first:last] = batch.numeric
        for scores, prediction in zip(self.scores, predictions, strict=False):
            scores[first:last] = prediction.scores[:fitting]
        if batch.categorical.size:
            self.categorical.append(batch.categorical)
        if batch.texts is not None:
            self.texts.append(batch.texts)


def empty(layout: Layout) -> Counts:
    return np.zeros(layout.width, np.int64)


def add_totals(counts: Counts, **found: int) -> None:
    """Of TOTALS. They stand at the beginning of every vector."""
    for name, value in found.items():
        counts[TOTALS.index(name)] += value


def add_latencies(layout: Layout, counts: Counts, seconds: Sequence[float]) -> None:
    bins = np.searchsorted(EDGES, np.asarray(seconds, np.float64), side="right")
    counts[layout.places["latency", ""]] += np.bincount(bins, minlength=len(EDGES) + 1)


def add_labels(layout: Layout, counts: Counts, head: str, indices: npt.NDArray[np.integer[Any]]) -> None:
    place = layout.places["labels", head]
    known = place.stop - place.start
    if known > FEW_LABELS:
        counts[place] += np.bincount(indices, minlength=known)
    else:
        counts[place] += [np.count_nonzero(indices == label) for label in range(known)]


def add_scores(layout: Layout, counts: Counts, schema: InputSchema, seen: Seen) -> None:
    for head, of_head in zip(schema.heads, seen.scores, strict=True):
        name = kept(head.name)
        counts[layout.places["scores", name]] += binned(of_head[: seen.rows], layout.told["heads"][name]["edges"])[:-1]


def add_columns(layout: Layout, counts: Counts, schema: InputSchema, seen: Seen) -> None:
    """Columns that the profile does not know are not counted."""
    columns = layout.told["columns"]
    if CHARACTERS in columns:
        lengths = [len(text) for texts in seen.texts for text in texts]
        counts[layout.places["column", CHARACTERS]] += binned(
            np.array(lengths, np.float32), columns[CHARACTERS]["edges"]
        )
        return
    if schema.numeric and columns:
        numeric = np.ascontiguousarray(seen.numeric[: seen.rows].T)
        for name, values in zip(map(kept, schema.numeric), numeric, strict=True):
            if name in columns:
                counts[layout.places["column", name]] += binned(values, columns[name]["edges"])
    if schema.categorical and columns:
        named = np.concatenate(seen.categorical).T
        for name, texts in zip(map(kept, schema.categorical), named, strict=True):
            if name in columns:
                counts[layout.places["column", name]] += _categories(texts.tolist(), columns[name])


def binned(values: npt.NDArray[np.floating[Any]], edges: Sequence[float]) -> Counts:
    """(edges + 2,): rows by bin, then the missing ones (NaN)."""
    known = len(values) - int(np.count_nonzero(np.isnan(values)))
    above = [int(np.count_nonzero(values >= edge)) for edge in edges]
    return np.append(-np.diff([known, *above, 0]), len(values) - known)


def _categories(texts: Sequence[str], column: Mapping[str, Any]) -> Counts:
    """(categories + 2,): rows by category, then others, then missing ("")."""
    found = Counter(texts)
    missing = found.pop("", 0)
    known = [found.pop(category, 0) for category in column["categories"]]
    return np.array([*known, found.total(), missing])
