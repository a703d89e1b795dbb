"""What the classifier pipeline leaves behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.runtimes import load_predictor as load
from app.runtimes.rows import to_batch
from app.runtimes.table import to_batch as table_batch
from tests.workers.runs import customers, data_of, news_of, run_of
from workers.ml.scoring import figures
from workers.pipeline import Candidate, find
from workers.pipelines.classifier import PIPELINE, ClassifierParams, plan, train

FAMILIES = ["hist_gradient_boosting", "logistic_regression", "mlp"]


def files(candidate: Candidate) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in candidate.folder.iterdir()}


def figures_on_holdout(candidate: Candidate, data: Any) -> dict[str, float]:
    predictor = load(candidate.format, candidate.folder)
    holdout = data.table("holdout")
    (prediction,) = predictor.predict(table_batch(holdout, predictor.schema))
    classes = [predictor.schema.heads[0].labels.index(v) for v in holdout.column(data.labels[0]).to_pylist()]
    return figures(np.array(classes), prediction.indices, prediction.probabilities)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_becomes_an_artifact_that_predicts_what_it_has_learnt(family: str, tmp_path: Path) -> None:
    data = data_of(customers())
    candidate = train(run_of(data, tmp_path, families=[family]))
    assert files(candidate).keys() == {"model.onnx", "schema.json", "smoke.json", "profile.json"}
    assert candidate.details["family"] == family
    assert figures_on_holdout(candidate, data)["auc_roc"] > 0.85
    assert candidate.metrics.keys() == {"f1", "precision", "recall", "auc_roc", "cv_auc_roc"}


def test_gaps_and_categories_never_seen_are_answered(tmp_path: Path) -> None:
    candidate = train(run_of(data_of(customers()), tmp_path))
    predictor = load("onnx", candidate.folder)
    row = {"age": None, "city": "Atlantis", "income": 3e38, "member": True, "branch": None, "empty": 1.5}
    (prediction,) = predictor.predict(to_batch([row], predictor.schema))
    assert 0 <= prediction.scores[0] <= 1


def test_the_hundred_smoke_inputs_are_read_like_any_request(tmp_path: Path) -> None:
    predictor = load("onnx", train(run_of(data_of(customers(rows=60)), tmp_path)).folder)
    smoke = predictor.smoke_inputs()
    scores = predictor.predict(to_batch(smoke, predictor.schema))[0].scores
    assert len(smoke) == 100
    assert np.isfinite(scores).all()
    assert None in [value for row in smoke for value in row]


@pytest.mark.parametrize(
    ("values", "positive", "labels"),
    [
        (("no", "yes"), None, ("no", "yes")),
        (("no", "yes"), "no", ("yes", "no")),
        ((0, 1), None, (0, 1)),
        ((False, True), False, (True, False)),
        ((-1.0, 1.0), None, (-1.0, 1.0)),
    ],
)
def test_labels_keep_their_type_and_the_positive_one_is_last(
    values: tuple[Any, Any], positive: Any, labels: tuple[Any, Any], tmp_path: Path
) -> None:
    table = customers()
    bought = [values[name == "yes"] for name in table.column("bought").to_pylist()]
    table = table.set_column(table.column_names.index("bought"), "bought", pa.array(bought))
    schema = load("onnx", train(run_of(data_of(table, positive=positive), tmp_path)).folder).schema
    assert schema.heads[0].labels == labels
    assert [type(label) for label in schema.heads[0].labels] == [type(label) for label in labels]
    assert schema.heads[0].threshold is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_three_classes_have_probabilities_that_add_up_and_no_threshold(family: str, tmp_path: Path) -> None:
    table = customers()
    age = table.column("age").fill_null(40).to_numpy()
    group = np.select([age < 35, age < 47], ["young", "middle"], "old")
    data = data_of(table.append_column("group", pa.array(group)), label="group")
    candidate = train(run_of(data, tmp_path, families=[family]))
    predictor = load("onnx", candidate.folder)
    (prediction,) = predictor.predict(to_batch(predictor.smoke_inputs(), predictor.schema))
    assert predictor.schema.heads[0].labels == ("middle", "old", "young")
    assert predictor.schema.heads[0].threshold is None
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-5)
    assert figures_on_holdout(candidate, data)["auc_roc"] > 0.85


def test_only_numbers_or_only_names_are_enough(tmp_path: Path) -> None:
    for features in (("age", "income"), ("city", "member")):
        data = data_of(customers(), features=features)
        predictor = load("onnx", train(run_of(data, tmp_path / features[0])).folder)
        assert len(predictor.predict(to_batch(predictor.smoke_inputs(), predictor.schema))[0].scores) == 100


def test_a_number_named_categorical_is_a_name(tmp_path: Path) -> None:
    data = data_of(customers(), categorical=frozenset({"branch"}))
    schema = load("onnx", train(run_of(data, tmp_path)).folder).schema
    assert schema.categorical == ["city", "member", "branch"]


def test_the_same_seed_and_data_give_the_same_bytes(tmp_path: Path) -> None:
    params: dict[str, Any] = {"families": FAMILIES, "optuna_trials": 4, "resampling": "smote"}
    first, second = (train(run_of(data_of(customers()), tmp_path / name, **params)) for name in ("first", "second"))
    assert files(first) == files(second)
    assert first.details == second.details


def test_another_seed_gives_another_search(tmp_path: Path) -> None:
    first, second = (
        train(run_of(data_of(customers()), tmp_path / str(seed), seed=seed, optuna_trials=3)) for seed in (1, 2)
    )
    assert first.details["trials"] != second.details["trials"]


def test_the_news_follows_the_published_stages(tmp_path: Path) -> None:
    run = run_of(data_of(customers()), tmp_path, families=FAMILIES, optuna_trials=3)
    train(run)
    news = news_of(run)
    started = [figures["name"] for figures in news.of("stage") if figures["state"] == "started"]
    assert started == list(PIPELINE.stages)
    assert sum(PIPELINE.stages.values()) == pytest.approx(1)
    assert [m["step"] for m in news.of("metric") if m["name"] == "cv_auc_roc"] == [0, 1, 2]
    assert "trial 2/3: logistic_regression (C 1), AUC-ROC 0." in news.log


def test_the_mlp_reports_its_loss_by_epoch(tmp_path: Path) -> None:
    run = run_of(data_of(customers()), tmp_path, families=["mlp"], epochs=4)
    train(run)
    curve = [m for m in news_of(run).of("metric") if m["name"] == "training_loss"]
    assert [m["step"] for m in curve] == [0, 1, 2, 3]
    assert curve[-1]["value"] < curve[0]["value"]


def test_a_learning_rate_that_is_given_is_no_longer_searched(tmp_path: Path) -> None:
    run = run_of(data_of(customers()), tmp_path, families=["mlp"], optuna_trials=3, epochs=3, learning_rate=0.02)
    trials = train(run).details["trials"]
    assert [trial["hyperparameters"]["learning_rate"] for trial in trials] == [0.02] * 3


def test_every_parameter_is_described_and_bounded_for_users() -> None:
    schema = ClassifierParams.model_json_schema()["properties"]
    bounds = {"minimum", "exclusiveMinimum", "enum", "minItems", "anyOf"}
    assert all("description" in field and bounds & field.keys() for field in schema.values())
    assert find("classifier").params().model_dump() == {
        "optuna_trials": 5,
        "epochs": 30,
        "early_stopping_patience": 5,
        "cv_folds": 5,
        "class_weight": "balanced",
        "resampling": "none",
        "families": FAMILIES,
        "batch_size": 512,
        "learning_rate": None,
    }


def test_a_dry_run_says_what_would_be_done_and_what_is_doubtful(tmp_path: Path) -> None:
    run = run_of(data_of(customers()), tmp_path, optuna_trials=3, cv_folds=4)
    answer = plan(run)
    json.dumps(answer)
    assert answer["rows"] == {"train": 280, "validation": 60, "holdout": 60}
    assert answer["columns"] == {"numeric": 4, "categorical": 2}
    assert answer["fits"] == 13
    assert answer["estimated_seconds"] > 0
    assert answer["estimated_peak_mib"] > 0
    assert answer["warnings"] == ["columns with one value or none in the training rows: branch, empty"]
    assert not run.folder.exists()


def test_neither_the_catalog_nor_a_dry_run_waits_for_training_libraries(tmp_path: Path) -> None:
    script = """
import pathlib, sys
from tests.workers.runs import customers, data_of, run_of
from workers.pipelines.classifier import plan
plan(run_of(data_of(customers()), pathlib.Path(sys.argv[1])))
print(sorted({"torch", "sklearn", "optuna", "imblearn", "onnxruntime"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "[]"
