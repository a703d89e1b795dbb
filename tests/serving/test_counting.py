"""What is answered is counted: exactly, by whom, beside the serving path, and within bounds."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.feedback.answers import find, labels_of
from app.feedback.log import prune_log
from app.feedback.tables import AnswerBlock, PredictionLog
from app.main import create_app, lifespan
from app.runtimes import Batch, Prediction
from app.serving import blocks, counting
from app.serving.counting import Key, Ledger
from app.settings import Settings
from app.traffic import service as traffic
from app.traffic.layout import layout_of
from tests.artifacts import SCHEMA
from tests.served import Make, activate, defined, flush, maker, predict

ROWS: list[list[float | None]] = [[-2.0, 1.0], [-0.5, None], [0.5, 0.0], [3.0, 0.5]]


@pytest.fixture
async def make(sessions: async_sessionmaker[AsyncSession], config: Settings, tmp_path: Path) -> Make:
    await defined(sessions, "fraud")
    return maker(sessions, config, tmp_path)


async def seen(sessions: async_sessionmaker[AsyncSession], slot: str = "active", version: int = 1) -> traffic.Traffic:
    now = datetime.now(UTC)
    async with sessions() as session:
        return await traffic.window(
            session, "fraud", version, slot, now - timedelta(minutes=5), now + timedelta(minutes=5)
        )


async def test_every_row_is_counted_in_the_bins_of_the_versions_own_profile(
    api: FastAPI, client: httpx.AsyncClient, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await make(bias=0.0)
    await activate(client)
    for _ in range(3):
        await predict(client, ROWS)
    await flush(api)
    found = await seen(sessions)
    assert (found.requests, found.rows, found.skipped, found.errors, found.invalid) == (3, 12, 0, 0, 0)
    assert found.columns["a"].tolist() == [3, 3, 3, 3, 0]
    assert found.columns["b"].tolist() == [3, 6, 3]
    # sigmoid(a) of the four rows: 0.12, 0.38, 0.62, 0.95
    assert found.scores["y"].tolist() == [3, 3, 6]
    assert found.labels["y"].tolist() == [6, 6]
    assert found.latency.sum() == 3


async def test_a_version_without_a_profile_is_counted_by_score_label_and_latency(
    api: FastAPI, client: httpx.AsyncClient, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await make(bias=0.0, profile=None)
    await activate(client)
    await predict(client, ROWS)
    await flush(api)
    found = await seen(sessions)
    assert (found.columns, found.rows, len(found.scores["y"]), found.scores["y"].sum()) == ({}, 4, 20, 4)


async def test_slots_are_counted_apart(
    api: FastAPI, client: httpx.AsyncClient, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await make(bias=-2.0)
    await activate(client)
    await make(bias=2.0, incumbent=1)
    await asyncio.sleep(0.5)
    await predict(client, ROWS)
    await predict(client, ROWS[:1], slot="standby")
    await flush(api)
    assert (await seen(sessions)).rows == 4
    assert (await seen(sessions, "standby", 2)).rows == 1


async def test_rows_that_do_not_fit_are_invalid_and_a_version_that_fails_has_errors(
    api: FastAPI,
    client: httpx.AsyncClient,
    make: Make,
    sessions: async_sessionmaker[AsyncSession],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await make(bias=0.0)
    await activate(client)
    refused = await client.post("/predict/batch", json={"instances": [[1]]})
    assert refused.status_code == 422
    unnamed = await client.post("/predict/batch", content=b"{")
    assert unnamed.status_code == 422
    active = api.state.replica.slots["fraud"].active

    def broken(_: Batch) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(active.predictor, "predict", broken)
    assert (await client.post("/predict/batch", json={"instances": [[1, 2]]})).status_code == 500
    monkeypatch.undo()
    await predict(client, ROWS)
    await flush(api)
    found = await seen(sessions)
    assert (found.requests, found.rows, found.errors, found.invalid) == (3, 4, 1, 1)


async def test_counts_of_two_replicas_are_one_count(
    api: FastAPI,
    client: httpx.AsyncClient,
    make: Make,
    config: Settings,
    sessions: async_sessionmaker[AsyncSession],
    admin_key: str,
) -> None:
    await make(bias=0.0)
    await activate(client)
    second = create_app(config)
    headers = {"Authorization": f"Bearer {admin_key}"}
    transport = httpx.ASGITransport(second)
    async with (
        lifespan(second),
        httpx.AsyncClient(transport=transport, base_url="http://refit", headers=headers) as other,
    ):
        for _ in range(5):
            await asyncio.gather(predict(client, ROWS), predict(other, ROWS))
        await asyncio.gather(flush(api), flush(second))
        await predict(other, ROWS)
    # The second replica has left, and told what it had counted before.
    found = await seen(sessions)
    assert (found.requests, found.rows, found.columns["a"].tolist()) == (11, 44, [11, 11, 11, 11, 0])


async def test_what_cannot_be_written_is_kept_and_written_later_once(
    api: FastAPI,
    client: httpx.AsyncClient,
    make: Make,
    sessions: async_sessionmaker[AsyncSession],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await make(bias=0.0)
    await activate(client)

    async def away(*_: Any) -> None:
        raise OperationalError("", {}, Exception("Postgres is away"))

    monkeypatch.setattr(traffic, "keep_layout", away)
    told = [await predict(client, ROWS)]
    await flush(api)
    told.append(await predict(client, ROWS))
    await flush(api)
    assert (await seen(sessions)).requests == 0
    monkeypatch.undo()
    await flush(api)
    await flush(api)
    assert (await seen(sessions)).requests == 2
    async with sessions() as session:
        requests = [counting_id(answer) for answer in told]
        assert set(await find(session, requests)) == set(requests)


async def test_an_answer_is_found_by_its_request_id_row_by_row(
    api: FastAPI, client: httpx.AsyncClient, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await make(bias=0.0)
    await activate(client)
    told = [await predict(client, ROWS[: 1 + place % 4]) for place in range(20)]
    told += [await predict(client, ROWS[place % 4 :][:1]) for place in range(5)]
    assert len({answer["request_id"] for answer in told}) == 25
    assert all(len(answer["request_id"]) == 32 for answer in told)
    await flush(api)
    async with sessions() as session:
        found = await find(session, [counting_id(answer) for answer in told])
        for answer in told:
            kept = found[counting_id(answer)]
            assert kept is not None
            assert (kept.version, kept.slot, kept.rows) == (1, "active", len(answer["labels"]))
            indices = await labels_of(session, [(kept, 0, row) for row in range(kept.rows)])
            assert [("no", "yes")[index] for index in indices] == answer["labels"]
        # One row each: no offsets are kept.
        blocks = (await session.scalars(select(AnswerBlock).order_by(AnswerBlock.at))).all()
        assert sum(block.rows for block in blocks) == sum(len(answer["labels"]) for answer in told)


async def test_a_mistyped_request_id_is_of_no_answer(
    api: FastAPI, client: httpx.AsyncClient, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await make(bias=0.0)
    await activate(client)
    told = [await predict(client, ROWS) for _ in range(20)]
    await flush(api)
    right = told[3]["request_id"]
    wrong = [
        right[:place] + digit + right[place + 1 :]
        for place in range(16, 32)
        for digit in "01f"
        if digit != right[place]
    ]
    async with sessions() as session:
        found = await find(session, [uuid.UUID(id) for id in wrong])
    assert list(found.values()) == [None] * len(wrong)


async def test_without_counting_predictions_are_answered_and_nothing_is_kept(
    config: Settings, admin_key: str, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    app = create_app(config.model_copy(update={"counting": "off"}))
    headers = {"Authorization": f"Bearer {admin_key}"}
    async with (
        lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://refit", headers=headers) as client,
    ):
        await make(bias=0.0)
        await activate(client)
        assert len((await predict(client, ROWS))["request_id"]) == 32
        await flush(app)
    assert (await seen(sessions)).layout is None


async def test_a_share_of_the_requests_is_logged_where_the_definition_says_so(
    api: FastAPI, client: httpx.AsyncClient, make: Make, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await make(bias=0.0)
    await activate(client)
    await predict(client, ROWS)
    await flush(api)
    assert (await client.get("/predictions/log")).json()["data"] == []
    await defined(sessions, "fraud", logging={"sample": 1.0})
    await api.state.directions.read()
    answer = await predict(client, ROWS)
    await flush(api)
    [logged] = (await client.get("/predictions/log")).json()["data"]
    assert logged["request_id"] == answer["request_id"]
    assert logged["rows"] == [dict(zip(("a", "b"), row, strict=True)) for row in ROWS]
    assert logged["answers"]["y"]["labels"] == answer["labels"]
    async with sessions() as session, session.begin():
        await session.execute(update(PredictionLog).values(keep_until=PredictionLog.at))
        await prune_log(session)
    assert (await client.get("/predictions/log")).json()["data"] == []


def ledger() -> Ledger:
    return Ledger(Key("fraud", 1, 1, "active"), SCHEMA, layout_of(SCHEMA, None), lambda: None)


def answers(rows: int) -> tuple[Batch, tuple[Prediction, ...]]:
    probabilities = np.full((rows, 2), 0.5, np.float32)
    prediction = Prediction(probabilities, probabilities[:, 1], np.ones(rows, np.int64))
    return Batch(np.zeros((rows, 2), np.float32), np.empty((rows, 0), np.object_)), (prediction,)


def test_beyond_the_budget_requests_are_sampled_whole_and_their_rows_counted_as_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "CELLS", 2_000)
    held, (batch, predictions) = ledger(), answers(100)
    for _ in range(50):
        held.note(batch, predictions, 0.001)
    [found] = held.close(2_000)
    requests, rows, skipped = found.counts[:3].tolist()
    assert (requests, rows, skipped) == (50, 5_000, 4_000)
    layout = held.layout
    assert found.counts[layout.places["scores", "y"]].sum() == 1_000
    # Every label is known all the same: feedback may speak of any row.
    assert found.counts[layout.places["labels", "y"]].sum() == 5_000
    assert found.answers is not None
    assert found.answers.rows == 5_000
    # From now on by chance over the whole second, not only its beginning.
    assert held._block.share == pytest.approx(0.2)


def test_when_nobody_comes_to_count_memory_is_bounded_and_what_is_lost_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "MOST_REQUESTS", 10)
    monkeypatch.setattr(counting, "MOST_BLOCKS", 3)
    held, (batch, predictions) = ledger(), answers(4)
    for _ in range(100):
        held.note(batch, predictions, 0.001)
    assert len(held._closed) == 3
    found = held.close(counting.CELLS)
    assert np.sum([counted.counts[:3] for counted in found], axis=0).tolist() == [100, 400, 280]


def counting_id(answer: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(answer["request_id"])
