"""Rows → features, twice over: in numpy for training and as ONNX nodes for serving.

Both do the same float32 operations in the same order, so a row has bit-identical features on both sides.
Trees compare features with thresholds, where one unit in the last place would send a row down the other
branch.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from app.runtimes import Batch
from workers.ml.classes import Indices, Matrix
from workers.ml.graph import Graph

MOST_CATEGORIES = 64
# A number beyond this many standard deviations is as far out as any; without a bound float32 overflows in the
# model.
FARTHEST = np.float32(1e6)


@dataclass(frozen=True)
class Encoding:
    """What was learnt of the columns: n rows become a matrix (n, width).

    Numeric columns: missing values take the median; centred, and scaled to unit variance; then a flag for
    each column that had missing values. Categorical columns: one column for each frequent category, where a
    missing value is the category ""; all zeros for a rare or unseen one.
    """

    medians: Matrix
    means: Matrix
    scales: Matrix  # factors, 1 / standard deviation
    flagged: Indices  # the numeric columns with missing values
    categories: tuple[tuple[str, ...], ...]

    @property
    def width(self) -> int:
        return len(self.medians) + len(self.flagged) + sum(len(names) for names in self.categories)

    def transform(self, batch: Batch) -> Matrix:
        missing = np.isnan(batch.numeric)
        filled = np.where(missing, self.medians, batch.numeric)
        with np.errstate(over="ignore"):
            scaled = np.clip((filled - self.means) * self.scales, -FARTHEST, FARTHEST)
        flags = missing[:, self.flagged].astype(np.float32)
        hot = (_one_hot(batch.categorical[:, i], names) for i, names in enumerate(self.categories))
        features: Matrix = np.concatenate([scaled, flags, *hot], axis=1)
        return features

    def add_to(self, graph: Graph) -> str:
        """The same as nodes, with the inputs that `app.runtimes.onnx` feeds; returns the features' name."""
        parts = [*self._numeric_nodes(graph), *self._categorical_nodes(graph)]
        return graph.add("Concat", *parts, axis=1)

    def _numeric_nodes(self, graph: Graph) -> Iterator[str]:
        if not len(self.medians):
            return
        numeric = graph.input("numeric", TensorProto.FLOAT, len(self.medians))
        missing = graph.add("IsNaN", numeric)
        filled = graph.add("Where", missing, graph.constant(self.medians), numeric)
        centred = graph.add("Sub", filled, graph.constant(self.means))
        scaled = graph.add("Mul", centred, graph.constant(self.scales))
        yield graph.add("Clip", scaled, graph.constant(-FARTHEST), graph.constant(FARTHEST))
        if len(self.flagged):
            flags = graph.add("Gather", missing, graph.constant(self.flagged), axis=1)
            yield graph.add("Cast", flags, to=TensorProto.FLOAT)

    def _categorical_nodes(self, graph: Graph) -> Iterator[str]:
        if not self.categories:
            return
        categorical = graph.input("categorical", TensorProto.STRING, len(self.categories))
        for place, names in enumerate(self.categories):
            if names:
                column = graph.add("Gather", categorical, graph.constant(np.int64(place)), axis=1)
                yield graph.add("OneHotEncoder", column, domain="ai.onnx.ml", cats_strings=list(names), zeros=1)


def fit(batch: Batch) -> Encoding:
    """Learns the encoding of training rows. Constant and wholly missing columns become columns of zeros."""
    missing = np.isnan(batch.numeric)
    medians = np.array([_median(batch.numeric[:, i]) for i in range(batch.numeric.shape[1])], np.float32)
    filled = np.where(missing, medians, batch.numeric).astype(np.float64)
    deviations = filled.std(axis=0)
    # Below this the factor would leave float32; such a column says nothing.
    scales = np.divide(1.0, deviations, out=np.ones_like(deviations), where=deviations > 1e-30)
    return Encoding(
        medians=medians,
        means=filled.mean(axis=0).astype(np.float32),
        scales=scales.astype(np.float32),
        flagged=np.flatnonzero(missing.any(axis=0)),
        categories=tuple(_frequent(batch.categorical[:, i]) for i in range(batch.categorical.shape[1])),
    )


def _median(column: Matrix) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def _frequent(column: npt.NDArray[np.object_]) -> tuple[str, ...]:
    """At most 64 categories, each in at least two rows and in one of a thousand, the most frequent ones."""
    least = max(2, len(column) // 1000)
    counted = [(-count, name) for name, count in Counter(column.tolist()).items() if count >= least]
    return tuple(sorted(name for _, name in sorted(counted)[:MOST_CATEGORIES]))


def _one_hot(column: npt.NDArray[np.object_], names: tuple[str, ...]) -> Matrix:
    place_of = {name: place for place, name in enumerate(names)}
    places = np.fromiter((place_of.get(value, -1) for value in column), np.int64, len(column))
    hot: Matrix = (places[:, None] == np.arange(len(names))).astype(np.float32)
    return hot
