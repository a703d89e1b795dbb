"""How a classifier's training fails: with the runbook's codes, the figures, and the remedy."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.workers.runs import customers, data_of, news_of, run_of
from workers.ml import families, nodes
from workers.ml.families import Family
from workers.pipeline import OutOfMemory, PipelineError, TrainingData
from workers.pipelines.classifier import plan, train


def relabelled(labels: list[Any]) -> pa.Table:
    table = customers(rows=len(labels))
    return table.set_column(table.column_names.index("bought"), "bought", pa.array(labels))


def failure(data: TrainingData, folder: Path, **params: Any) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        train(run_of(data, folder, **params))
    assert caught.value.remedy
    return caught.value


def test_a_single_class_is_insufficient_data(tmp_path: Path) -> None:
    error = failure(data_of(relabelled(["no"] * 100)), tmp_path)
    assert error.code == "insufficient_data"
    assert error.message == "All 70 training rows have the label 'no': there is nothing to tell apart."


def test_a_class_of_one_row_is_data_imbalance_and_the_remedy_names_weights_and_smote(tmp_path: Path) -> None:
    error = failure(data_of(relabelled(["no"] * 69 + ["yes"] + ["no", "yes"] * 15)), tmp_path)
    assert error.code == "data_imbalance"
    assert error.message == "Of 70 training rows, 1 has the label 'yes'."
    assert "class_weight" in error.remedy
    assert "smote" in error.remedy


def test_a_rare_class_lowers_the_folds_and_trains(tmp_path: Path) -> None:
    rare = data_of(relabelled(["no"] * 67 + ["yes"] * 3 + ["no", "yes"] * 15))
    run = run_of(rare, tmp_path, cv_folds=5, resampling="smote", families=["mlp", "hist_gradient_boosting"])
    train(run)
    assert "3 folds, not 5: the rarest class has 3 training rows" in news_of(run).log
    assert "3 folds, not 5: the rarest class has 3 training rows" in plan(run)["warnings"]


def test_validation_rows_of_one_class_choose_no_threshold(tmp_path: Path) -> None:
    error = failure(data_of(relabelled(["no", "yes"] * 35 + ["no"] * 30)), tmp_path)
    assert error.code == "insufficient_data"
    assert "None of 15 validation rows has the label 'yes'" in error.message


def test_no_rows_at_all_are_insufficient_data(tmp_path: Path) -> None:
    error = failure(data_of(customers(rows=0), positive="yes"), tmp_path)
    assert (error.code, error.message) == (
        "insufficient_data",
        "There are 0 training and 0 validation rows with a label.",
    )


def test_rows_without_a_known_label_are_left_out_and_counted(tmp_path: Path) -> None:
    labels = [None if i % 10 == 0 else "yes" if i % 3 else "no" for i in range(100)]
    labels[75] = "perhaps"
    run = run_of(data_of(relabelled(labels)), tmp_path)
    train(run)
    assert "7 of 70 train rows are left out" in news_of(run).log
    assert "3 of 15 validation rows are left out" in news_of(run).log


def test_columns_that_no_model_reads_are_named_with_the_way_out(tmp_path: Path) -> None:
    table = customers().append_column("seen", pa.array([datetime.date(2026, 1, 1)] * 400))
    error = failure(data_of(table), tmp_path)
    assert error.code == "unsupported_column"
    assert "seen (date32[day])" in error.message
    assert "data.ignore" in error.remedy


def test_an_infinite_number_names_its_column(tmp_path: Path) -> None:
    table = customers().append_column("ratio", pa.array([np.inf] + [1.0] * 399))
    error = failure(data_of(table), tmp_path)
    assert error.code == "unsupported_column"
    assert "'ratio'" in error.message


def test_a_positive_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    error = failure(data_of(customers(), positive="maybe"), tmp_path)
    assert error.code == "unsupported_column"
    assert error.message == "data.positive is 'maybe', and the labels are 'no', 'yes'."


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    error = failure(data_of(relabelled([i / 7 for i in range(100)])), tmp_path)
    assert error.code == "unsupported_column"
    assert "fractions" in error.message


def test_training_that_learns_nothing_is_not_converged(tmp_path: Path) -> None:
    run = run_of(data_of(customers()), tmp_path, families=["mlp"], epochs=1, learning_rate=1e-9, optuna_trials=2)
    with pytest.raises(PipelineError) as caught:
        train(run)
    assert caught.value.code == "not_converged"
    assert caught.value.message == "None of the 2 trials converged."
    assert "training.epochs" in caught.value.remedy
    assert "trial 1/2: mlp did not converge: 1 epochs of the MLP never beat" in news_of(run).log


def test_one_family_that_does_not_converge_spoils_nothing(tmp_path: Path) -> None:
    families_given = ["mlp", "logistic_regression"]
    run = run_of(data_of(customers()), tmp_path, families=families_given, epochs=1, learning_rate=1e-9, optuna_trials=2)
    assert train(run).details["family"] == "logistic_regression"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate"), RuntimeError("can't allocate memory")],
)
def test_running_out_of_memory_has_its_own_code(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any) -> Any:
        raise error

    greedy = Family(fit, nodes.linear, stops_early=False, default={}, space={})
    monkeypatch.setitem(families.FAMILIES, "logistic_regression", greedy)
    with pytest.raises(OutOfMemory):
        train(run_of(data_of(customers()), tmp_path))


def test_other_runtime_errors_keep_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> Any:
        raise RuntimeError("a bug")

    broken = Family(fit, nodes.linear, stops_early=False, default={}, space={})
    monkeypatch.setitem(families.FAMILIES, "logistic_regression", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        train(run_of(data_of(customers()), tmp_path))


def test_an_export_that_answers_otherwise_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted:
        def __init__(self, fitted: Any) -> None:
            self.coef_, self.intercept_ = fitted.coef_, fitted.intercept_ + 0.01

    def write(graph: Any, features: str, estimator: Any) -> str:
        return nodes.linear(graph, features, Shifted(estimator))

    original = families.FAMILIES["logistic_regression"]
    skewed = Family(original.fit, write, original.stops_early, original.default, original.space)
    monkeypatch.setitem(families.FAMILIES, "logistic_regression", skewed)
    error = failure(data_of(customers()), tmp_path)
    assert error.code == "export_mismatch"
    assert "in probability" in error.message
