"""Texts over HTTP: strings and objects, several heads, all probabilities, and the runbook's /classify."""

import io
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.registry import artifacts
from app.registry.artifacts import Manifest
from app.registry.promotion import promote
from app.runtimes.schema import TextInput
from app.settings import Settings
from tests import encoders
from tests.factories import define, version
from tests.workers.runs import data_of, run_of
from tests.workers.test_embedding_classifier import QUICK, questions
from workers.pipelines.embedding_classifier import EmbeddingClassifierParams, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with the heads `urgent` (no, yes) and `about` (card, money, pin)."""
    folder = tmp_path_factory.mktemp("texts")
    text = TextInput(template="{title} {content}", longest=1_000)
    run = run_of(data_of(questions(), labels=("urgent", "about"), features=("title", "content"), text=text), folder)
    run.params = EmbeddingClassifierParams(encoder=str(encoders.make(folder / "tiny")), **QUICK)
    return train(run).folder


@pytest.fixture
async def texts(
    client: httpx.AsyncClient,
    sessions: async_sessionmaker[AsyncSession],
    config: Settings,
    trained: Path,
    tmp_path: Path,
) -> httpx.AsyncClient:
    """The service with that version active, as the only model."""
    shutil.copytree(trained, tmp_path / "copy")
    of = {"model_type": "embedding_classifier", "data_version": "d" * 64, "code_revision": "t"}
    unnamed = Manifest(format="embedding", **of, files={}, details={})
    digest = artifacts.publish(config.store, tmp_path / "copy", unnamed).digest
    async with sessions() as session, session.begin():
        await define(session, "news")
        await version(session, config, "news", artifact=digest, format="embedding")
        await promote(session, "news")
    swapped = await client.post("/model/reload", json={})
    assert swapped.status_code == 200, swapped.text
    return client


LONG = "has a text of 1001 characters; at most 1000 are read"


async def predict(client: httpx.AsyncClient, instances: list[Any], **more: Any) -> dict[str, Any]:
    answer = await client.post("/predict/batch", json={"instances": instances} | more)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_texts_objects_and_lists_get_the_same_answer_of_every_head(texts: httpx.AsyncClient) -> None:
    sent: list[list[Any]] = [
        ["card my lost", "pin i not"],
        [{"title": "card my", "content": "lost"}, {"content": "not", "title": "pin i"}],
        [["card my", "lost"], ["pin i", "not"]],
    ]
    answers = [await predict(texts, instances) for instances in sent]
    for answer in answers:
        assert answer["labels"] == ["yes", "no"]
        assert answer["heads"]["urgent"] == {"labels": answer["labels"], "scores": answer["scores"]}
        assert answer["heads"]["about"]["labels"] == ["card", "pin"]
        assert answer["scores"] == pytest.approx(answers[0]["scores"], abs=1e-5)


async def test_all_labels_come_with_their_probabilities_where_they_are_asked_for(texts: httpx.AsyncClient) -> None:
    answer = await predict(texts, ["money the lost", "card a not", "pin to lost"], probabilities=True)
    found = answer["heads"]["about"]["probabilities"]
    assert list(found) == ["card", "money", "pin"]
    assert np.sum(list(found.values()), axis=0) == pytest.approx([1, 1, 1], abs=1e-5)
    assert answer["probabilities"]["yes"] == pytest.approx(answer["scores"])


async def test_ten_thousand_texts_and_one_are_answered_alike(texts: httpx.AsyncClient) -> None:
    many = await predict(texts, ["card my lost", "money a not"] * 5_000)
    one = await predict(texts, ["money a not"])
    assert many["labels"] == ["yes", "no"] * 5_000
    assert many["scores"][-1] == pytest.approx(one["scores"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("instances", "errors"),
    [
        (["a", " "], [{"row": 1, "column": None, "message": "has no text"}]),
        (["a", 1], [{"row": 1, "column": None, "message": "expected a list of 2 values or an object, or a text"}]),
        (
            ["x" * 1_001],
            [{"row": 0, "column": None, "message": "has a text of 1001 characters; at most 1000 are read"}],
        ),
    ],
)
async def test_a_bad_row_is_named(texts: httpx.AsyncClient, instances: list[Any], errors: list[Any]) -> None:
    answer = await texts.post("/predict/batch", json={"instances": instances})
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


async def test_numbers_are_no_texts(texts: httpx.AsyncClient) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 2)))
    headers = {"content-type": "application/x-npy"}
    answer = await texts.post("/predict/batch", content=file.getvalue(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_instances")


async def test_classify_refuses_what_is_not_unicode(texts: httpx.AsyncClient) -> None:
    body = b'{"title": "go\\ud800al", "content": null}'
    answer = await texts.post("/classify", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_instances")


@pytest.mark.parametrize("wanted", ["yes", 1, None])
async def test_probabilities_is_true_or_false(texts: httpx.AsyncClient, wanted: Any) -> None:
    answer = await texts.post("/predict/batch", json={"instances": ["a"], "probabilities": wanted})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "probabilities", "message": "must be true or false"}]


async def test_classify_answers_one_text_by_its_columns(texts: httpx.AsyncClient) -> None:
    answer = await texts.post("/classify", json={"title": "card the", "content": "lost"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["model"], told["version"], told["label"]) == ("news", 1, "yes")
    assert told["heads"]["about"]["label"] == "card"
    assert told["heads"]["about"]["score"] == max(told["heads"]["about"]["probabilities"].values())
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (await texts.get("/health")).status_code == 200


@pytest.mark.parametrize("body", [{}, {"title": "a"}, {"title": 1, "content": "b"}, {"title": "", "content": None}, []])
async def test_classify_refuses_what_is_no_text(texts: httpx.AsyncClient, body: Any) -> None:
    answer = await texts.post("/classify", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
