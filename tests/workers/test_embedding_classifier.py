"""The embedding classifier from a data version to an artifact that answers as the training did."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from app.runtimes import load
from app.runtimes.embedding import EmbeddingPredictor
from app.runtimes.rows import to_batch
from app.runtimes.schema import TextInput
from app.runtimes.table import to_batch as table_batch
from tests import encoders
from tests.workers.runs import data_of, news_of, run_of
from workers.pipeline import Candidate, PipelineError, Run, TrainingData
from workers.pipelines import embedding_classifier
from workers.pipelines.embedding_classifier import EmbeddingClassifierParams, plan, train

QUICK: dict[str, Any] = {"optuna_trials": 2, "cv_folds": 2}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.make(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a worker computes once: every test of this file but those that say so finds the encoder exported."""
    return tmp_path_factory.mktemp("shared")


def questions(rows: int = 240, seed: int = 1) -> pa.Table:
    """A title and a content; what it is about, and whether it is urgent, which only some rows know."""
    generator = np.random.default_rng(seed)
    about = generator.choice(["card", "money", "pin"], rows)
    urgent = generator.random(rows) < 0.5
    noise = [" ".join(generator.choice(["my", "i", "a", "the", "to"], 3)) for _ in range(rows)]
    return pa.table(
        {
            "title": [f"{word} {extra}" for word, extra in zip(about, noise, strict=True)],
            "content": pa.array(["lost" if now else "not" for now in urgent], mask=generator.random(rows) < 0.1),
            "about": about.tolist(),
            "urgent": pa.array(np.where(urgent, "yes", "no"), mask=generator.random(rows) < 0.3),
        }
    )


def texts_of(table: pa.Table, *labels: str, **changes: Any) -> TrainingData:
    told: dict[str, Any] = {
        "labels": labels or ("about",),
        "features": ("title", "content"),
        "text": TextInput(template="{title} {content}", longest=1_000),
    }
    return data_of(table, **told | changes)


def run_with(data: TrainingData, folder: Path, encoder: Path, shared: Path, **params: Any) -> Run:
    run = run_of(data, folder)
    run.params = EmbeddingClassifierParams(encoder=str(encoder), **QUICK | params)
    run.shared = shared
    return run


def trained(run: Run) -> tuple[Candidate, EmbeddingPredictor]:
    candidate = train(run)
    predictor = load(candidate.format, candidate.folder)
    assert isinstance(predictor, EmbeddingPredictor)
    return candidate, predictor


def test_it_learns_and_the_artifact_reads_objects_lists_and_texts(tmp_path: Path, encoder: Path, shared: Path) -> None:
    run = run_with(texts_of(questions()), tmp_path, encoder, shared)
    candidate, predictor = trained(run)
    holdout = run.data.table("holdout")
    (prediction,) = predictor.predict(table_batch(holdout, predictor.schema))
    right = np.mean(np.array(prediction.labels(predictor.schema.heads[0])) == holdout["about"].to_pylist())
    assert right > 0.95
    rows = [{"title": "money my", "content": "not"}]
    answers = [
        predictor.predict(to_batch(sent, predictor.schema))[0]
        for sent in (rows, [["money my", "not"]], ["money my not"])
    ]
    assert [answer.labels(predictor.schema.heads[0]) for answer in answers] == [["money"]] * 3
    assert answers[0].probabilities == pytest.approx(answers[2].probabilities, abs=1e-6)
    assert candidate.metrics["f1"] > 0.9
    assert {p.name for p in run.folder.iterdir()} == {
        "tokenizer.json", "encoder.json", "encoder.onnx", "heads.onnx", "schema.json", "smoke.json", "profile.json",
    }  # fmt: skip


def test_several_columns_are_heads_on_one_embedding_each_with_the_rows_it_knows(
    tmp_path: Path, encoder: Path, shared: Path
) -> None:
    run = run_with(texts_of(questions(), "urgent", "about"), tmp_path, encoder, shared)
    candidate, predictor = trained(run)
    urgent, about = predictor.schema.heads
    assert (urgent.name, urgent.labels, about.name, about.labels) == (
        "urgent", ("no", "yes"), "about", ("card", "money", "pin"),
    )  # fmt: skip
    assert urgent.threshold is not None
    assert about.threshold is None
    predictions = predictor.predict(to_batch(["pin i a my lost"], predictor.schema))
    assert [p.labels(h)[0] for p, h in zip(predictions, predictor.schema.heads, strict=True)] == ["yes", "pin"]
    assert {"urgent.f1", "about.f1"} <= candidate.metrics.keys()
    profile = orjson.loads((run.folder / "profile.json").read_bytes())
    assert profile["heads"].keys() == {"urgent", "about"}
    assert profile["columns"]["@characters"]["kind"] == "numeric"


def test_a_retraining_embeds_only_the_texts_that_are_new(tmp_path: Path, encoder: Path) -> None:
    shared = tmp_path / "shared"
    first = run_with(texts_of(questions(200)), tmp_path / "first", encoder, shared)
    train(first)
    more = pa.concat_tables(
        [
            questions(200),
            pa.table({"title": ["exchange rate"], "content": ["top up"], "about": ["pin"], "urgent": ["no"]}),
        ]
    )
    split = pa.concat_tables([pa.table({"s": first.data.split}), pa.table({"s": ["train"]})])["s"]
    again = run_with(texts_of(more, split=split), tmp_path / "second", encoder, shared)
    train(again)
    embedded = {p["name"]: p["value"] for p in news_of(again).of("metric") if "embedded" in p["name"]}
    assert embedded == {"training_texts_embedded": 1, "validation_texts_embedded": 0}


def test_an_attempt_that_died_while_embedding_goes_on_where_it_was(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.ml import embeddings

    monkeypatch.setattr(embeddings, "AT_ONCE", 16)
    shared, kept = tmp_path / "shared", []
    add = embeddings.Cache.add

    def add_and_die(self: embeddings.Cache, digests: Any, found: Any) -> None:
        add(self, digests, found)
        kept.append(len(digests))
        if len(kept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(embeddings.Cache, "add", add_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(run_with(texts_of(questions()), tmp_path / "first", encoder, shared))
    monkeypatch.setattr(embeddings.Cache, "add", add)
    again = run_with(texts_of(questions()), tmp_path / "second", encoder, shared)
    train(again)
    whole = run_with(texts_of(questions()), tmp_path / "third", encoder, tmp_path / "other")
    train(whole)
    counted = [news_of(run).of("metric")[0]["value"] for run in (again, whole)]
    assert counted[0] + sum(kept) == counted[1]
    same = [(run.folder / "heads.onnx").read_bytes() for run in (again, whole)]
    assert same[0] == same[1]


def test_trials_of_an_earlier_attempt_are_taken_over(tmp_path: Path, encoder: Path, shared: Path) -> None:
    runs = []
    for _ in range(2):
        runs.append(run_with(texts_of(questions()), tmp_path, encoder, shared))
        train(runs[-1])
        shutil.rmtree(runs[-1].folder)
    assert [len([p for p in news_of(run).of("metric") if p["name"] == "about_f1"]) for run in runs] == [2, 0]


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_encoder_with_a_file_missing_says_which(tmp_path: Path, encoder: Path, shared: Path, missing: str) -> None:
    part = tmp_path / "part"
    shutil.copytree(encoder, part)
    (part / missing).unlink()
    with pytest.raises(PipelineError, match=f"has no file {missing}") as refused:
        train(run_with(texts_of(questions()), tmp_path, part, shared))
    assert refused.value.code == "encoder_incomplete"


def test_an_encoder_that_nobody_can_fetch_says_so_and_the_way_out(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match="cannot be fetched") as refused:
        train(run_with(texts_of(questions()), tmp_path, Path("nomic-ai/nomic-embed-text-v2-moe"), shared))
    assert refused.value.code == "encoder_unavailable"
    assert "local folder" in refused.value.remedy


def test_an_encoder_that_pools_otherwise_is_refused(tmp_path: Path, encoder: Path, shared: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(encoder, other)
    (other / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "lasttoken"}))
    with pytest.raises(PipelineError, match="pools by lasttoken"):
        train(run_with(texts_of(questions()), tmp_path, other, shared))


def test_a_definition_without_texts_is_refused(tmp_path: Path, encoder: Path, shared: Path) -> None:
    with pytest.raises(PipelineError, match="the definition names none") as refused:
        train(run_with(texts_of(questions(), text=None), tmp_path, encoder, shared))
    assert refused.value.code == "unsupported_column"


def test_an_export_that_embeds_otherwise_is_not_published(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.ml import encoder_export

    monkeypatch.setattr(encoder_export, "LIMITS", {"fp32": (1.1, 1.1)})
    with pytest.raises(PipelineError) as refused:
        train(run_with(texts_of(questions()), tmp_path, encoder, tmp_path / "shared"))
    assert refused.value.code == "export_mismatch"
    assert not list((tmp_path / "shared" / "encoders").iterdir())


def test_a_head_that_answers_otherwise_is_not_published(
    tmp_path: Path, encoder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.ml import heads

    monkeypatch.setattr(heads, "PROBABILITY_TOLERANCE", -1.0)
    with pytest.raises(PipelineError) as refused:
        train(run_with(texts_of(questions()), tmp_path, encoder, shared))
    assert refused.value.code == "export_mismatch"


def test_a_dry_run_counts_texts_and_fetches_no_encoder(tmp_path: Path, shared: Path) -> None:
    found = plan(run_with(texts_of(questions()), tmp_path, Path("/nowhere"), shared))
    assert found["labels"] == {"about": ["card", "money", "pin"]}
    assert found["fits"] == 5
    assert found["stages"] == list(embedding_classifier.PIPELINE.stages)


def test_int8_is_smaller_and_answers_nearly_alike(tmp_path: Path, encoder: Path, shared: Path) -> None:
    run = run_with(texts_of(questions()), tmp_path, encoder, shared, precision="int8")
    _, predictor = trained(run)
    assert predictor.encoder.rule.precision == "int8"
    holdout = run.data.table("holdout")
    (prediction,) = predictor.predict(table_batch(holdout, predictor.schema))
    assert np.mean(np.array(prediction.labels(predictor.schema.heads[0])) == holdout["about"].to_pylist()) > 0.9
