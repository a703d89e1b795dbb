"""Classes of unequal size, and the folds and portions that rows are dealt into."""

import numpy as np
import pyarrow as pa
import pytest

from app.runtimes import Batch
from workers.ml.classes import ClassWeight, Resampling, balanced_weights, indices_of, labels_of, oversample
from workers.ml.estimator import Effort
from workers.ml.families import FAMILIES
from workers.ml.fitting import Balance, Recipe, _portions, folds
from workers.ml.scoring import auc_roc, figures
from workers.ml.tabular import Examples

CLASSES = np.array([0] * 90 + [1] * 10)
FEATURES = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)


def recipe(class_weight: ClassWeight, resampling: Resampling, family: str = "mlp") -> Recipe:
    balance = Balance(class_weight, resampling)
    return Recipe(FAMILIES[family], {}, balance, Effort(1, 1, 8, 1, seed=5))


def test_balanced_weights_make_every_class_weigh_the_same() -> None:
    weights = balanced_weights(CLASSES, 2)
    assert (weights * [90, 10]).tolist() == [50, 50]


def test_smote_grows_the_rare_class_between_its_own_rows() -> None:
    features, classes = oversample(FEATURES, CLASSES, seed=1)
    assert np.bincount(classes).tolist() == [90, 90]
    rare = FEATURES[CLASSES == 1]
    assert (features[classes == 1].min(axis=0) >= rare.min(axis=0)).all()
    assert (features[classes == 1].max(axis=0) <= rare.max(axis=0)).all()
    assert features.dtype == np.float32


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_smote_makes_do_with_few_rows(rare: int) -> None:
    classes = np.array([0] * (100 - rare) + [1] * rare)
    assert np.bincount(oversample(FEATURES, classes, seed=1)[1]).tolist() == [100 - rare] * 2


@pytest.mark.parametrize(
    ("class_weight", "resampling", "learnt", "stopping"),
    [
        ("none", "none", [1, 1], [1, 1]),
        ("balanced", "none", [5 / 9, 5], [5 / 9, 5]),
        ("balanced", "smote", [1, 1], [5 / 9, 5]),
        ("none", "smote", [1, 1], [5 / 9, 5]),
    ],
)
def test_early_stopping_looks_at_real_rows_with_the_weights_that_were_asked_for(
    class_weight: ClassWeight, resampling: Resampling, learnt: list[float], stopping: list[float]
) -> None:
    rows, stop = _portions(FEATURES, CLASSES, recipe(class_weight, resampling))
    assert np.bincount(stop.classes).tolist() == [9, 1]
    assert np.bincount(rows.classes).tolist() == ([81, 81] if resampling == "smote" else [81, 9])
    real, kept = {tuple(row) for row in FEATURES.tolist()}, {tuple(row) for row in rows.features.tolist()}
    assert {tuple(row) for row in stop.features.tolist()} <= real - kept
    for portion, expected in ((rows, learnt), (stop, stopping)):
        assert [portion.weights[portion.classes == each][0] for each in (0, 1)] == pytest.approx(expected)


def test_a_family_that_does_not_stop_early_learns_from_all_rows() -> None:
    rows, _ = _portions(FEATURES, CLASSES, recipe("none", "none", "logistic_regression"))
    assert len(rows.classes) == 100


def test_folds_are_stratified_and_in_time_order_each_is_one_stretch() -> None:
    classes = np.tile([0, 0, 0, 1], 25)
    examples = Examples(Batch(FEATURES, np.empty((100, 0), np.object_)), classes)
    for time_ordered in (False, True):
        tests = [test for _, test in folds(examples, 5, 1, time_ordered)]
        assert [int(classes[test].sum()) for test in tests] == [5] * 5
        assert sorted(np.concatenate(tests).tolist()) == list(range(100))
        assert all((np.diff(test) == 1).all() for test in tests) == time_ordered


@pytest.mark.parametrize(
    ("values", "positive", "labels"),
    [
        (pa.chunked_array([["b", None, "a"]]), None, ("a", "b")),
        (pa.chunked_array([["b", None, "a"]]), "a", ("b", "a")),
        (pa.chunked_array([pa.array(["b", None, "a"]).dictionary_encode()]), None, ("a", "b")),
        (pa.chunked_array([pa.array([2.0, None, 1.0])]), 1, (2.0, 1.0)),
        (pa.chunked_array([pa.array([2.0, float("nan"), 1.0])]), None, (1.0, 2.0)),
        (pa.chunked_array([["c", None, "a", "b"]]), "b", ("a", "b", "c")),
    ],
)
def test_labels_are_sorted_without_gaps(values: pa.ChunkedArray, positive: object, labels: tuple[object]) -> None:
    found = labels_of(values, positive)
    assert found == labels
    known = [None if index < 0 else found[index] for index in indices_of(values, found)]
    assert known == [value if value in found else None for value in values.to_pylist()]


def test_auc_of_many_classes_is_the_mean_over_those_that_can_be_measured() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]])
    assert auc_roc(np.array([0, 1, 1, 0]), probabilities) == pytest.approx((0.75 + 0.75) / 2)
    assert "auc_roc" not in figures(np.zeros(4, np.int64), np.zeros(4, np.int64), probabilities)
