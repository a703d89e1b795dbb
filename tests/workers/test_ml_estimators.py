"""The estimators: what they learn, and that ONNX answers like them."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from workers.ml import nodes
from workers.ml.estimator import Effort, NotConverged, Weighted
from workers.ml.families import FAMILIES
from workers.ml.graph import Graph
from workers.ml.mlp import MLP

EFFORT = Effort(epochs=5, patience=2, batch_size=64, accumulation=1, seed=3)
SMALL = {"width": 8, "depth": 1, "dropout": 0.0, "learning_rate": 0.01, "weight_decay": 0.0}


def rows(classes: int = 2, count: int = 600, weight: float = 1.0) -> Weighted:
    generator = np.random.default_rng(1)
    # Few distinct values, so that many rows lie exactly on the thresholds of trees.
    features = (generator.integers(0, 40, (count, 4)) / np.float32(7)).astype(np.float32)
    labels = np.digitize(features[:, 0] + features[:, 1] * features[:, 2] / 6, np.linspace(2, 8, classes + 1)[1:-1])
    return Weighted(features, labels.astype(np.int64), np.full(count, weight))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_onnx_answers_like_the_estimator_on_rows_at_its_very_thresholds(name: str, classes: int) -> None:
    family, given = FAMILIES[name], rows(classes)
    estimator = family.fit(given, given, family.default, EFFORT)
    graph = Graph()
    features = graph.input("features", TensorProto.FLOAT, 4)
    nodes.probabilities(graph, family.write(graph, features, estimator), classes)
    session = onnxruntime.InferenceSession(graph.model("probabilities", classes))
    (answers,) = session.run(None, {"features": given.features})
    np.testing.assert_allclose(answers, estimator.predict_proba(given.features), atol=2e-6)


def test_the_mlp_stops_when_the_loss_no_longer_falls_and_keeps_the_best_epoch() -> None:
    losses: list[float] = []
    effort = Effort(200, 3, 64, 1, 3, on_epoch=lambda _epoch, _training, stopping: losses.append(stopping))
    learn, stop = rows(count=300), rows(count=40)
    noisy = Weighted(stop.features, np.random.default_rng(0).permutation(stop.classes), stop.weights)
    fitted = MLP(**SMALL | {"learning_rate": 0.003}, effort=effort).fit(learn, stop=noisy)
    assert len(losses) < 200
    assert min(losses) == losses[-4]
    chances = fitted.predict_proba(noisy.features)[np.arange(40), noisy.classes]
    assert -np.log(chances).mean() == pytest.approx(min(losses), rel=1e-4)


def test_the_mlp_does_not_converge_on_labels_without_a_pattern() -> None:
    given = rows()
    shuffled = Weighted(given.features, np.random.default_rng(0).permutation(given.classes), given.weights)
    with pytest.raises(NotConverged, match="never beat a constant answer"):
        MLP(**SMALL | {"learning_rate": 1e-8}, effort=EFFORT).fit(shuffled, shuffled)


def test_a_loss_that_is_not_finite_is_not_convergence() -> None:
    given = rows()
    with pytest.raises(NotConverged, match="not finite in epoch 1"):
        MLP(**SMALL | {"learning_rate": 1e30}, effort=EFFORT).fit(given, given)


def test_half_the_memory_takes_the_same_steps_in_twice_as_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given, parts = rows(), []
    original = MLP._summed_loss

    def seen(self: MLP, *arguments: object) -> object:
        parts.append(len(arguments[1]))  # type: ignore[arg-type]  # the rows of one part
        return original(self, *arguments)  # type: ignore[arg-type]  # passed on as they come

    whole = MLP(**SMALL, effort=Effort(3, 2, 64, 1, 3)).fit(given, given)
    monkeypatch.setattr(MLP, "_summed_loss", seen)
    halves = MLP(**SMALL, effort=Effort(3, 2, 64, 2, 3)).fit(given, given)
    assert {32} < set(parts) <= {32, 12, 600}
    np.testing.assert_allclose(halves.predict_proba(given.features), whole.predict_proba(given.features), atol=1e-3)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_weights_make_a_rare_class_count(name: str) -> None:
    given = rows()
    weights = np.where(given.classes == 1, 50.0, 1.0)
    family = FAMILIES[name]
    plain = family.fit(given, given, family.default, EFFORT)
    heavy = family.fit(*[Weighted(given.features, given.classes, weights)] * 2, family.default, EFFORT)
    share = [model.predict_proba(given.features)[:, 1].mean() for model in (plain, heavy)]
    assert share[1] > share[0] + 0.02


def test_bins_of_the_trees_do_not_depend_on_the_weights() -> None:
    family, effort = FAMILIES["hist_gradient_boosting"], EFFORT
    continuous = np.random.default_rng(0).normal(size=(2_000, 1)).astype(np.float32)
    classes = (continuous[:, 0] > 0.3).astype(np.int64)
    weights = np.where(classes == 1, 50.0, 1.0)
    plain, heavy = (
        family.fit(*[Weighted(continuous, classes, each)] * 2, family.default, effort)
        for each in (np.ones(2_000), weights)
    )
    thresholds = [model._bin_mapper.bin_thresholds_[0] for model in (plain, heavy)]  # type: ignore[attr-defined]  # scikit-learn's
    np.testing.assert_array_equal(*thresholds)
