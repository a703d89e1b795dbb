"""The estimators: what they learn, and that ONNX answers like them."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from workers.ml import nodes
from workers.ml.classes import Matrix
from workers.ml.estimator import Effort, NotConverged, Weighted
from workers.ml.families import FAMILIES
from workers.ml.graph import Graph
from workers.ml.mlp import MLP

EFFORT = Effort(epochs=5, patience=2, batch_size=64, accumulation=1, seed=3)


def rows(classes: int = 2, count: int = 600, noise: float = 0.0) -> Weighted:
    """Rows of which a share of `noise` has the class of another row."""
    generator = np.random.default_rng(1)
    # Few distinct values, so that many rows lie exactly on the thresholds of trees.
    features = (generator.integers(0, 40, (count, 4)) / np.float32(7)).astype(np.float32)
    score = features[:, 0] + features[:, 1] * features[:, 2] / 6
    labels = np.digitize(score, np.linspace(2, 8, classes + 1)[1:-1]).astype(np.int64)
    labels = np.where(generator.random(count) < noise, generator.permutation(labels), labels)
    return Weighted(features, labels, np.ones(count))


def heavier(given: Weighted) -> Weighted:
    return Weighted(given.features, given.classes, np.where(given.classes == 1, 50.0, 1.0))


def small(effort: Effort, learning_rate: float = 0.01) -> MLP:
    return MLP(width=8, depth=1, dropout=0.0, learning_rate=learning_rate, weight_decay=0.0, effort=effort)


def by_onnx(name: str, estimator: Any, features: Matrix, classes: int) -> Any:
    graph = Graph()
    given = graph.input("features", TensorProto.FLOAT, features.shape[1])
    nodes.probabilities(graph, FAMILIES[name].write(graph, given, estimator), classes)
    session = onnxruntime.InferenceSession(graph.model(probabilities=classes))
    return session.run(None, {"features": features})[0]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_onnx_answers_like_the_estimator_on_rows_at_its_very_thresholds(name: str, classes: int) -> None:
    family, given = FAMILIES[name], rows(classes)
    estimator = family.fit(given, given, family.default, EFFORT)
    answers = by_onnx(name, estimator, given.features, classes)
    np.testing.assert_allclose(answers, estimator.predict_proba(given.features), atol=2e-6)


def test_trees_tell_neighbouring_floats_apart_in_onnx_too() -> None:
    # Thresholds are doubles halfway between two values; of neighbouring floats, that half rounds up every other time.
    steps = np.arange(400) % 40
    features = (1 + steps * 2.0**-23).astype(np.float32)[:, None]
    given = Weighted(features, np.random.default_rng(0).integers(0, 2, 40)[steps], np.ones(400))
    family = FAMILIES["hist_gradient_boosting"]
    estimator = family.fit(given, given, {**family.default, "min_samples_leaf": 5}, EFFORT)
    np.testing.assert_allclose(
        by_onnx("hist_gradient_boosting", estimator, features, 2), estimator.predict_proba(features), atol=2e-6
    )


def test_the_mlp_stops_when_the_loss_no_longer_falls_and_keeps_the_best_epoch() -> None:
    losses: list[float] = []
    effort = Effort(200, 3, 64, 1, 3, on_epoch=lambda _epoch, _training, stopping: losses.append(stopping))
    stop = rows(count=60, noise=0.3)
    fitted = small(effort).fit(rows(noise=0.3), stop)
    assert len(losses) < 200
    assert min(losses) == losses[-4]
    chances = fitted.predict_proba(stop.features)[np.arange(60), stop.classes]
    assert -np.log(chances).mean() == pytest.approx(min(losses), rel=1e-4)


def test_an_mlp_that_learns_nothing_has_not_converged() -> None:
    with pytest.raises(NotConverged, match="5 epochs of the MLP never beat a constant answer"):
        small(EFFORT, learning_rate=1e-8).fit(rows(noise=1), rows(noise=1))


def test_a_loss_that_is_not_finite_is_not_convergence() -> None:
    given = rows()
    with pytest.raises(NotConverged, match="not finite in epoch 1"):
        small(EFFORT, learning_rate=1e30).fit(given, given)


def test_half_the_memory_takes_the_same_steps_in_twice_as_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given, parts, original = rows(), set(), MLP._summed_loss

    def seen(self: MLP, of: Any, part: Any) -> Any:
        parts.add(len(part))
        return original(self, of, part)

    whole = small(Effort(3, 2, 64, accumulation=1, seed=3)).fit(given, given)
    monkeypatch.setattr(MLP, "_summed_loss", seen)
    halves = small(Effort(3, 2, 64, accumulation=2, seed=3)).fit(given, given)
    assert parts == {32, 12, len(given.classes)}
    np.testing.assert_allclose(halves.predict_proba(given.features), whole.predict_proba(given.features), atol=1e-3)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_weights_make_a_rare_class_count(name: str) -> None:
    given, family = rows(noise=0.5), FAMILIES[name]
    plain, heavy = (family.fit(each, each, family.default, EFFORT) for each in (given, heavier(given)))
    share = [model.predict_proba(given.features)[:, 1].mean() for model in (plain, heavy)]
    assert share[1] > share[0] + 0.05


def test_bins_of_the_trees_do_not_depend_on_the_weights() -> None:
    family, features = FAMILIES["hist_gradient_boosting"], np.random.default_rng(0).normal(size=(2_000, 1))
    given = Weighted(features.astype(np.float32), (features[:, 0] > 0.3).astype(np.int64), np.ones(2_000))
    fitted: list[Any] = [family.fit(each, each, family.default, EFFORT) for each in (given, heavier(given))]
    plain, heavy = (model._bin_mapper.bin_thresholds_[0] for model in fitted)
    np.testing.assert_array_equal(plain, heavy)
