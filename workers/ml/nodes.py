"""Fitted estimators as ONNX nodes, one function a family: features in, logits out, (n, 1) or (n, classes).

Written here and not by a converter: skl2onnx 1.20 cannot write scikit-learn 1.9's boosting with onnx 1.23,
and rounds its thresholds to the nearest float32. Each is a dozen lines, and `workers.ml.export` compares the
outputs before anything is published.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from workers.ml.classes import Matrix
from workers.ml.graph import Graph


def linear(graph: Graph, features: str, estimator: Any) -> str:
    """scikit-learn's LogisticRegression."""
    return _dense(graph, features, estimator.coef_.T, estimator.intercept_)


def perceptron(graph: Graph, features: str, estimator: Any) -> str:
    """Refit's MLP. Of two classes only the difference of their logits matters."""
    *hidden, (weights, bias) = estimator.layers
    for inner_weights, inner_bias in hidden:
        features = graph.add("Relu", _dense(graph, features, inner_weights, inner_bias))
    if len(bias) == 2:
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    return _dense(graph, features, weights, bias)


def trees(graph: Graph, features: str, estimator: Any) -> str:
    """scikit-learn's HistGradientBoostingClassifier: one tree for each round and logit, which add up.

    The arrays of the trees are private there and have been stable for years; a change fails the comparison.
    """
    predictors, start = estimator._predictors, estimator._baseline_prediction  # noqa: SLF001 - see above
    targets = len(predictors[0])
    parts = [
        _tree(one.nodes, tree, tree % targets)
        for tree, one in enumerate(tree for in_round in predictors for tree in in_round)
    ]
    joined = {name: np.concatenate([part[name] for part in parts]).tolist() for name in parts[0]}
    return graph.add(
        "TreeEnsembleRegressor",
        features,
        domain="ai.onnx.ml",
        n_targets=targets,
        base_values=np.ravel(start).astype(np.float32).tolist(),
        **joined,
    )


def probabilities(graph: Graph, logits: str, classes: int, output: str = "probabilities") -> None:
    """Softmax, which for two classes and one logit is the logistic function."""
    if classes > 2:
        graph.add("Softmax", logits, axis=1, output=output)
        return
    second = graph.add("Sigmoid", logits)
    first = graph.add("Sub", graph.constant(np.float32(1)), second)
    graph.add("Concat", first, second, axis=1, output=output)


def _dense(graph: Graph, features: str, weights: Matrix, bias: Matrix) -> str:
    narrow = (graph.constant(np.ascontiguousarray(values, np.float32)) for values in (weights, bias))
    return graph.add("Gemm", features, *narrow)


def _tree(nodes: npt.NDArray[np.void], tree: int, target: int) -> dict[str, npt.NDArray[Any]]:
    inner = nodes["is_leaf"] == 0
    leaves = np.flatnonzero(~inner)
    return {
        "nodes_treeids": np.full(len(nodes), tree),
        "nodes_nodeids": np.arange(len(nodes)),
        "nodes_featureids": np.where(inner, nodes["feature_idx"], 0),
        "nodes_modes": np.where(inner, "BRANCH_LEQ", "LEAF"),
        "nodes_values": _float32_below(np.where(inner, nodes["num_threshold"], 0.0)),
        "nodes_truenodeids": np.where(inner, nodes["left"], 0),
        "nodes_falsenodeids": np.where(inner, nodes["right"], 0),
        "target_treeids": np.full(len(leaves), tree),
        "target_nodeids": leaves,
        "target_ids": np.full(len(leaves), target),
        "target_weights": nodes["value"][leaves].astype(np.float32),
    }


def _float32_below(thresholds: npt.NDArray[np.float64]) -> Matrix:
    """The largest float32 that is not above: for a float32 x, x <= it exactly where x <= threshold."""
    narrow = thresholds.astype(np.float32)
    lowered: Matrix = np.where(narrow > thresholds, np.nextafter(narrow, np.float32(-np.inf)), narrow)
    return lowered
