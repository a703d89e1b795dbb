"""scikit-learn's histogram gradient boosting, stopped early by given rows, from nothing or from published trees."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from workers.ml.estimator import Effort, Estimator, Weighted
from workers.ml.published import Trees

ROUNDS = 300  # at most: early stopping decides
MORE_ROUNDS = 50  # the same of an incremental training
LEAST_PROBABILITY = 1e-15
# scikit-learn's names of what a node has, and ONNX's.
FIELDS = {
    "feature_idx": "featureids",
    "num_threshold": "values",
    "left": "truenodeids",
    "right": "falsenodeids",
}


class Boosting(HistGradientBoostingClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """Finds its bins without the rows' weights, and can go on from trees that it has not grown.

    scikit-learn 1.9 computes weighted quantiles one by one in Python, which takes longer than all the trees;
    weights belong into the loss and gain nothing in the bins. Should the private name change, this is merely
    slow.
    """

    def _bin_data(self, X: Any, _weights: Any, is_training_data: bool) -> Any:  # noqa: N803 - the name there
        return super()._bin_data(X, None, is_training_data)


class Continued(Boosting):
    """`warm_start` asks old trees about bins, which are other ones on other rows: here they see the rows themselves.

    What it takes for granted of scikit-learn is private; a change fails, or is found when the export is compared.
    """

    def start_from(self, trees: Trees) -> None:
        self._predictors = _rounds(trees)
        self._baseline_prediction = trees.base.astype(np.float64).reshape(1, -1)
        self._random_seed = self.random_state
        self._feature_subsample_rng = np.random.default_rng(self.random_state)
        self.train_score_ = self.validation_score_ = np.zeros(0)
        self._rows: list[tuple[Any, Any]] = []

    def _bin_data(self, X: Any, _weights: Any, is_training_data: bool) -> Any:  # noqa: N803 - the name there
        binned = super()._bin_data(X, None, is_training_data)
        self._rows.append((binned, X))
        return binned

    def _raw_predict(self, X: Any, n_threads: Any = None) -> Any:  # noqa: N803 - the name there
        rows = next((rows for binned, rows in self._rows if binned is X), None)
        if rows is None:
            return super()._raw_predict(X, n_threads)
        sums = np.zeros((len(rows), self.n_trees_per_iteration_), order="F")
        sums += self._baseline_prediction
        self._predict_iterations(rows, self._predictors, sums, False, n_threads)
        return sums

    def trim(self, stop: Weighted) -> None:
        """Forgets the rounds behind the lowest loss on `stop`; all new ones, where the old trees alone have it."""
        self._rows, grown = [], self._predictors
        self._predictors = grown[: len(grown) - len(self.validation_score_)]
        losses = [_loss(self, stop), *-self.validation_score_]
        self._predictors = grown[: len(self._predictors) + int(np.argmin(losses))]


def fit(rows: Weighted, stop: Weighted, hyperparameters: Any, effort: Effort) -> Estimator:
    model: Estimator = _of(Boosting, ROUNDS, hyperparameters, effort)
    _learn(model, rows, stop)
    return model


def go_on(trees: Trees, rows: Weighted, stop: Weighted, hyperparameters: Any, effort: Effort) -> Estimator:
    """Adds rounds to `trees` until the loss on `stop` no longer falls, and keeps those up to its lowest."""
    model = _of(Continued, len(_rounds(trees)) + MORE_ROUNDS, hyperparameters, effort, warm_start=True)
    model.start_from(trees)
    _learn(model, rows, stop)
    model.trim(stop)
    fitted: Estimator = model
    return fitted


def _of(kind: type[Boosting], rounds: int, hyperparameters: Any, effort: Effort, **more: Any) -> Any:
    early = {"early_stopping": True, "n_iter_no_change": effort.patience}
    return kind(max_iter=rounds, random_state=effort.seed, **early, **hyperparameters, **more)


def _learn(model: Any, rows: Weighted, stop: Weighted) -> None:
    watched = {"X_val": stop.features, "y_val": stop.classes, "sample_weight_val": stop.weights}
    model.fit(rows.features, rows.classes, rows.weights, **watched)


def _loss(model: Boosting, rows: Weighted) -> float:
    """As scikit-learn's: the weighted mean of the cross-entropy."""
    probabilities = model.predict_proba(rows.features)[np.arange(len(rows.classes)), rows.classes]
    return float(np.average(-np.log(np.maximum(probabilities, LEAST_PROBABILITY)), weights=rows.weights))


def _rounds(trees: Trees) -> list[list[TreePredictor]]:
    """As scikit-learn keeps them: a list of rounds, each with a tree for every target."""
    values = trees.values
    count = int(values["nodes_treeids"].max()) + 1
    grown = [_tree(values, tree) for tree in range(count)]
    return [grown[first : first + trees.targets] for first in range(0, count, trees.targets)]


def _tree(values: Mapping[str, npt.NDArray[Any]], tree: int) -> TreePredictor:
    of_nodes, of_leaves = (values[f"{kind}_treeids"] == tree for kind in ("nodes", "target"))
    nodes = np.zeros(int(of_nodes.sum()), PREDICTOR_RECORD_DTYPE)
    nodes["is_leaf"] = values["nodes_modes"][of_nodes] == b"LEAF"
    for ours, theirs in FIELDS.items():
        nodes[ours] = values[f"nodes_{theirs}"][of_nodes]
    nodes["value"][values["target_nodeids"][of_leaves]] = values["target_weights"][of_leaves]
    no_categories = np.zeros((0, 8), np.uint32)
    return TreePredictor(nodes, no_categories, no_categories)
