"""The families of estimators to choose from: where each starts, what is tuned, how it is fitted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from workers.ml import nodes
from workers.ml.estimator import Effort, Estimator, NotConverged, Weighted
from workers.ml.graph import Graph
from workers.ml.published import Published

Hyperparameters = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """`fit(rows, stop, hyperparameters, effort)` learns from `rows` until the loss on `stop` no longer falls.

    One that does not look at `stop` says so with `stops_early` False, and no rows are set aside for it.
    `write(graph, features, estimator)` adds the fitted estimator to an ONNX graph and returns the name of its
    logits. `read(graph)` gives the parameters of one that was published, and `go_on(parameters, rows, stop, …)` learns
    on from them, where the family can: there `stop` are rows that nothing was trained on.
    """

    fit: Callable[[Weighted, Weighted, Hyperparameters, Effort], Estimator]
    write: Callable[[Graph, str, Any], str]
    stops_early: bool
    default: Hyperparameters
    space: Mapping[str, BaseDistribution]
    read: Callable[[Published], Any] | None = None
    go_on: Callable[[Any, Weighted, Weighted, Hyperparameters, Effort], Estimator] | None = None

    @property
    def fixed(self) -> Hyperparameters:
        """Those that are not tuned."""
        return {name: value for name, value in self.default.items() if name not in self.space}

    def fixing(self, **hyperparameters: Any) -> "Family":
        """The same with these hyperparameters set and no longer tuned."""
        space = {name: values for name, values in self.space.items() if name not in hyperparameters}
        return replace(self, default={**self.default, **hyperparameters}, space=space)

    def searching(self, default: Hyperparameters, space: Mapping[str, BaseDistribution]) -> "Family":
        """The same, searched elsewhere."""
        return replace(self, default={**self.default, **default}, space={**self.space, **space})


def fit_hist_gradient_boosting(rows: Weighted, stop: Weighted, chosen: Hyperparameters, effort: Effort) -> Estimator:
    from workers.ml.boosting import fit

    return fit(rows, stop, chosen, effort)


def go_on_boosting(trees: Any, rows: Weighted, stop: Weighted, chosen: Hyperparameters, effort: Effort) -> Estimator:
    from workers.ml.boosting import go_on

    return go_on(trees, rows, stop, chosen, effort)


def fit_logistic_regression(rows: Weighted, _: Weighted, chosen: Hyperparameters, effort: Effort) -> Estimator:
    return _settled(_logistic_regression(chosen, effort), rows)


def go_on_logistic_regression(
    layer: Any, rows: Weighted, _: Weighted, chosen: Hyperparameters, effort: Effort
) -> Estimator:
    """The loss is convex: where it starts decides how long it takes, and not where it ends."""
    model = _logistic_regression(chosen, effort)
    weights, bias = layer
    model.set_params(warm_start=True)
    model.coef_, model.intercept_ = weights.T.copy(), bias
    return _settled(model, rows)


def _logistic_regression(chosen: Hyperparameters, effort: Effort) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=effort.seed, **chosen)


def _settled(model: Any, rows: Weighted) -> Estimator:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fitted: Estimator = model.fit(rows.features, rows.classes, rows.weights)
        except ConvergenceWarning as warning:
            raise NotConverged("logistic regression did not settle in 1000 iterations") from warning
    return fitted


def fit_mlp(rows: Weighted, stop: Weighted, chosen: Hyperparameters, effort: Effort) -> Estimator:
    from workers.ml.mlp import MLP

    return MLP(**chosen, effort=effort).fit(rows, stop)


def go_on_mlp(layers: Any, rows: Weighted, stop: Weighted, chosen: Hyperparameters, effort: Effort) -> Estimator:
    from workers.ml.mlp import MLP

    return MLP(**chosen, effort=effort).go_on(layers, rows, stop)


FAMILIES: Mapping[str, Family] = {
    "hist_gradient_boosting": Family(
        fit_hist_gradient_boosting,
        nodes.trees,
        stops_early=True,
        default={
            "learning_rate": 0.1,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 20,
            "l2_regularization": 1.0,
        },
        space={
            "learning_rate": FloatDistribution(0.03, 0.3, log=True),
            "max_leaf_nodes": IntDistribution(7, 63, log=True),
            "min_samples_leaf": IntDistribution(5, 100, log=True),
            "l2_regularization": FloatDistribution(1e-3, 30.0, log=True),
        },
        read=Published.trees,
        go_on=go_on_boosting,
    ),
    "logistic_regression": Family(
        fit_logistic_regression,
        nodes.linear,
        stops_early=False,
        default={"C": 1.0},
        space={"C": FloatDistribution(1e-3, 100.0, log=True)},
        read=lambda published: published.layers()[0],
        go_on=go_on_logistic_regression,
    ),
    "mlp": Family(
        fit_mlp,
        nodes.perceptron,
        stops_early=True,
        default={"width": 64, "depth": 2, "dropout": 0.1, "learning_rate": 3e-3, "weight_decay": 1e-4},
        space={
            "width": CategoricalDistribution([32, 64, 128]),
            "depth": IntDistribution(1, 3),
            "dropout": FloatDistribution(0.0, 0.3),
            "learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
            "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
        },
        read=Published.layers,
        go_on=go_on_mlp,
    ),
}
