"""Training that goes on from what is active: what it takes over, what it adds, and when it cannot."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.runtimes import load
from tests import encoders
from tests.workers.runs import customers, data_of, news_of, run_of
from tests.workers.test_classifier import FAMILIES, figures_on_holdout
from tests.workers.test_embedding_classifier import questions, run_with, texts_of, trained
from workers.ml import export, fitting, tabular
from workers.ml import families as known
from workers.ml.estimator import Effort
from workers.ml.fitting import Balance, Model, Recipe
from workers.ml.published import Published, Unreadable
from workers.ml.tabular import Examples
from workers.pipeline import Base, Candidate, TrainingData
from workers.pipelines.classifier import plan, train

EFFORT = Effort(epochs=5, patience=3, batch_size=64, accumulation=1, seed=1)


def base_of(candidate: Candidate, **changes: Any) -> Base:
    schema = load(candidate.format, candidate.folder).schema
    return replace(Base(3, candidate.format, candidate.folder, schema, candidate.details), **changes)


def grown(data: TrainingData, rows: int = 100) -> TrainingData:
    """The same and new training rows; what was validation or holdout stays so."""
    more = customers(rows, seed=2)
    new = pa.chunked_array([pa.array(["train"] * rows)])
    split = pa.chunked_array([*data.split.chunks, *new.chunks])
    return replace(data, rows=pa.concat_tables([data.rows, more]), split=split, digest="e" * 64)


def three_cities(rows: int = 400) -> TrainingData:
    """Three classes, which age and income tell apart."""
    table = customers(rows)
    age = pc.fill_null(table["age"], 40)
    kind = pc.if_else(pc.greater(age, 45), "old", pc.if_else(pc.greater(table["income"], 3_000), "rich", "other"))
    return data_of(table.drop(["bought"]).append_column("kind", kind), "kind")


def recipe(family: str) -> Recipe:
    chosen = known.FAMILIES[family]
    return Recipe(chosen, chosen.default, Balance("balanced", "none"), EFFORT)


def fitted(family: str, data: TrainingData) -> tuple[Examples, Model]:
    examples = tabular.prepare(data, print).train
    return examples, fitting.fit(examples, recipe(family))


@pytest.mark.parametrize("data", [data_of(customers()), three_cities()], ids=["two", "three"])
@pytest.mark.parametrize("family", ["hist_gradient_boosting", "mlp"])
def test_what_does_not_help_is_not_kept_so_the_start_is_bit_for_bit_what_was_published(
    family: str, data: TrainingData
) -> None:
    examples, model = fitted(family, data)
    count = len(set(examples.classes.tolist()))
    published = export.to_onnx(model, count)
    graph = Published(published)
    read = known.FAMILIES[family].read
    assert read is not None
    # Rows whose labels are wrong: whatever is learnt makes the loss on them worse.
    wrong = Examples(examples.batch, (examples.classes + 1) % count)
    again = fitting.go_on(examples, wrong, recipe(family), graph.encoding(), read(graph))
    assert export.to_onnx(again, count) == published


@pytest.mark.parametrize("data", [data_of(customers()), three_cities()], ids=["two", "three"])
def test_logistic_regression_is_at_once_where_it_was_on_the_same_rows(data: TrainingData) -> None:
    examples, model = fitted("logistic_regression", data)
    graph = Published(export.to_onnx(model, len(set(examples.classes.tolist()))))
    again = fitting.go_on(examples, examples, recipe("logistic_regression"), graph.encoding(), graph.layers()[0])
    assert again.probabilities(examples.batch) == pytest.approx(model.probabilities(examples.batch), abs=1e-4)
    steps = [int(each.estimator.n_iter_[0]) for each in (model, again)]  # type: ignore[attr-defined] # scikit-learn's
    assert steps[1] <= steps[0] / 3


def test_boosting_keeps_the_trees_that_there_are_and_adds_to_them(tmp_path: Path) -> None:
    data = data_of(customers())
    chosen: dict[str, Any] = {"families": ["hist_gradient_boosting"], "early_stopping_patience": 2}
    first = train(run_of(data, tmp_path / "first", **chosen))
    run = run_of(grown(data, 2_000), tmp_path / "second", **chosen)
    run.base = base_of(first)
    second = train(run)
    before, after = (Published((each.folder / "model.onnx").read_bytes()).trees() for each in (first, second))
    count = len(before.values["nodes_treeids"])
    assert len(after.values["nodes_treeids"]) > count
    assert (after.values["nodes_values"][:count] == before.values["nodes_values"]).all()
    assert (after.base == before.base).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_takes_family_and_hyperparameters_over_and_searches_nothing(family: str, tmp_path: Path) -> None:
    data = data_of(customers(1_000))
    first = train(run_of(data, tmp_path / "first", families=[family]))
    run = run_of(grown(data), tmp_path / "second", families=FAMILIES, optuna_trials=50)
    run.base = base_of(first)
    second = train(run)
    assert second.full_because is None
    assert (second.details["family"], second.details["trials"]) == (family, [])
    assert second.details["hyperparameters"] == first.details["hyperparameters"]
    assert "cv_auc_roc" not in second.metrics
    assert f"starts from version 3: {family}" in news_of(run).log
    assert len([p for p in news_of(run).of("metric") if p["name"] == "training_loss"]) <= 5
    figures = [figures_on_holdout(each, data)["auc_roc"] for each in (first, second)]
    assert figures[1] > figures[0] - 0.01


def test_the_same_base_and_rows_give_the_same_artifact(tmp_path: Path) -> None:
    data = data_of(customers())
    for family in FAMILIES:
        first = train(run_of(data, tmp_path / family, families=[family]))
        models = []
        for attempt in ("a", "b"):
            run = run_of(grown(data), tmp_path / family / attempt, families=[family])
            run.base = base_of(first)
            models.append((train(run).folder / "model.onnx").read_bytes())
        assert models[0] == models[1]


def test_a_learning_rate_that_the_definition_sets_goes_before_the_one_that_was_found(tmp_path: Path) -> None:
    data = data_of(customers())
    first = train(run_of(data, tmp_path / "first", families=["mlp"]))
    run = run_of(data, tmp_path / "second", families=["mlp"], learning_rate=0.0007)
    run.base = base_of(first)
    assert train(run).details["hyperparameters"] == {**first.details["hyperparameters"], "learning_rate": 0.0007}


def without(column: str) -> pa.Table:
    return customers().drop([column])


def other_labels() -> pa.Table:
    table = customers()
    return table.set_column(table.column_names.index("bought"), "bought", pc.equal(table["bought"], "yes"))


@pytest.mark.parametrize(
    ("table", "params", "changes", "reason"),
    [
        (without("income"), {}, {}, "it reads other columns (income)"),
        (other_labels(), {}, {}, "it tells other labels apart in bought"),
        (customers(), {"families": ["mlp"]}, {}, "of the family logistic_regression, which training.families does not"),
        (customers(), {}, {"details": {}}, "it does not say of which family it is"),
        (customers(), {}, {"format": "embedding"}, "it does not say of which family it is"),
    ],
)
def test_where_nothing_of_the_base_fits_it_trains_in_full_and_says_why(
    table: pa.Table, params: dict[str, Any], changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    first = train(run_of(data_of(customers()), tmp_path / "first"))
    run = run_of(data_of(table), tmp_path / "second", **params)
    run.base = base_of(first, **changes)
    second = train(run)
    assert second.full_because is not None
    assert reason in second.full_because
    assert second.full_because in news_of(run).log
    assert len(second.details["trials"]) == 1


def test_a_graph_that_refit_did_not_write_is_not_started_from(tmp_path: Path) -> None:
    first = train(run_of(data_of(customers()), tmp_path / "first"))
    base = base_of(first)
    shutil.copytree(first.folder, tmp_path / "other")
    (tmp_path / "other" / "model.onnx").write_bytes(b"\xff\xff no model")
    run = run_of(data_of(customers()), tmp_path / "second")
    run.base = replace(base, folder=tmp_path / "other")
    assert train(run).full_because == "its parameters cannot be read: it is no ONNX model"
    with pytest.raises(Unreadable, match="not one"):
        Published((first.folder / "model.onnx").read_bytes()).trees()


def test_a_family_that_cannot_go_on_trains_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(run_of(data_of(customers()), tmp_path / "first"))
    stuck = replace(known.FAMILIES["logistic_regression"], read=None, go_on=None)
    monkeypatch.setattr(known, "FAMILIES", {**known.FAMILIES, "logistic_regression": stuck})
    run = run_of(data_of(customers()), tmp_path / "second")
    run.base = base_of(first)
    assert train(run).full_because == "nothing can start from one of the family logistic_regression"


def test_a_dry_run_knows_that_there_is_one_fit(tmp_path: Path) -> None:
    first = train(run_of(data_of(customers()), tmp_path / "first"))
    run = run_of(data_of(customers()), tmp_path / "second", optuna_trials=50)
    run.base = base_of(first)
    assert plan(run)["fits"] == 1


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.make(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def test_heads_go_on_from_those_that_were_published(tmp_path: Path, encoder: Path, shared: Path) -> None:
    both = texts_of(questions(), "urgent", "about")
    first, before = trained(run_with(both, tmp_path / "first", encoder, shared))
    run = run_with(both, tmp_path / "second", encoder, shared, optuna_trials=50)
    run.base = base_of(first)
    second, after = trained(run)
    assert second.full_because is None
    for name in ("urgent", "about"):
        assert second.details["heads"][name]["C"] == first.details["heads"][name]["C"]
        assert second.details["heads"][name]["trials"] == []
    texts = before.encoder.encode(["card my a lost", "pin the i not"])
    for old, new in zip(before.decide(texts), after.decide(texts), strict=True):
        assert new.probabilities == pytest.approx(old.probabilities, abs=0.01)
    assert np.isfinite(second.metrics["about.f1"])
    assert "starts from the heads of version 3" in news_of(run).log


@pytest.mark.parametrize(
    ("labels", "params", "reason"),
    [
        (("about",), {"precision": "int8"}, "its texts are embedded otherwise (precision)"),
        (("about",), {"prefix": "query: "}, "its texts are embedded otherwise (prefix)"),
        (("about", "urgent"), {}, "it tells other labels apart in urgent"),
    ],
)
def test_heads_of_other_embeddings_or_labels_are_trained_in_full(
    tmp_path: Path, encoder: Path, shared: Path, labels: tuple[str, ...], params: dict[str, Any], reason: str
) -> None:
    first, _ = trained(run_with(texts_of(questions(), "about"), tmp_path / "first", encoder, shared))
    run = run_with(texts_of(questions(), *labels), tmp_path / "second", encoder, shared, **params)
    run.base = base_of(first)
    second, _ = trained(run)
    assert second.full_because == reason
    assert len(second.details["heads"]["about"]["trials"]) == 2
