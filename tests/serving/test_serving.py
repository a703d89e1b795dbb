"""Replicas and predictions, over HTTP, with real artifacts and the real swap."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.registry import artifacts
from app.registry.promotion import promote
from app.registry.tables import ModelSlots, ReplicaSlots
from app.serving import predictions
from app.serving.replica import Shelf, Slots, Wanted, converge
from app.settings import Settings
from tests.artifacts import publish
from tests.factories import define, replica, version

Make = Callable[..., Awaitable[int]]


@pytest.fixture
async def make(sessions: async_sessionmaker[AsyncSession], config: Settings, tmp_path: Path) -> Make:
    """Publishes a version of `fraud` that passed the gate; it is staged by itself."""
    async with sessions() as session, session.begin():
        await define(session, "fraud")

    async def make(*, bias: float, incumbent: int | None = None) -> int:
        digest = publish(config.store, tmp_path / f"new-{bias}", bias=bias)
        async with sessions() as session, session.begin():
            number = await version(session, config, "fraud", artifact=digest, incumbent=incumbent)
            await promote(session, "fraud")
        return number

    return make


async def predict(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/predict/batch", json={"instances": [[0.0, 1.0]]} | body)


async def test_a_version_goes_from_standby_to_answers_and_back(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    first = await client.post("/model/reload", json={})
    assert first.status_code == 200, first.text
    assert (first.json()["active"], first.json()["missing"]) == (1, [])
    await make(bias=2.0, incumbent=1)
    swapped = (await client.post("/model/reload", json={})).json()
    assert [receipt["served"] for receipt in swapped["replicas"]] == [swapped["generation"]] == [2]
    answer = (await predict(client)).json()
    assert (answer["version"], answer["generation"], answer["labels"]) == (2, 2, ["yes"])
    rolled = (await client.post("/model/rollback", json={"reason": "worse"})).json()
    assert (rolled["active"], rolled["missing"], rolled["hold_reason"]) == (1, [], "rolled back from version 2: worse")
    answer = (await predict(client)).json()
    assert (answer["version"], answer["generation"], answer["labels"]) == (1, 3, ["no"])


async def test_the_standby_can_be_asked_and_says_that_it_is_the_standby(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make(bias=2.0, incumbent=1)
    await until_warm(client, 2)
    answer = (await predict(client, slot="standby")).json()
    assert (answer["version"], answer["slot"], answer["labels"]) == (2, "standby", ["yes"])


async def test_no_request_is_dropped_or_mixed_while_versions_are_swapped(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make(bias=2.0, incumbent=1)
    scores = {1: 0.1192, 2: 0.8808}
    told: list[int] = []
    stop = asyncio.Event()

    async def ask() -> None:
        newest = 0
        while not stop.is_set():
            response = await client.post("/predict/batch", json={"instances": [[0.0, 0.0]] * 50})
            assert response.status_code == 200, response.text
            answer = response.json()
            assert {round(score, 4) for score in answer["scores"]} == {scores[answer["version"]]}
            assert answer["generation"] >= newest
            newest = answer["generation"]
            told.append(newest)
            # Within one process a request waits for nothing, and the replica would never have its turn.
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    try:
        async with asyncio.timeout(60):
            await client.post("/model/reload", json={})
            for _ in range(3):
                await client.post("/model/rollback", json={"reason": "x", "hold": False, "version": 1})
                await client.post("/model/rollback", json={"reason": "x", "hold": False, "version": 2})
    finally:
        stop.set()
    await asyncio.gather(*asking)
    assert set(told) >= {2, 8}


async def test_a_standby_that_is_corrupt_is_never_swapped_in_and_the_refusal_says_why(
    client: httpx.AsyncClient, make: Make, config: Settings, tmp_path: Path
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make_corrupt(client, config, tmp_path)
    do_not_wait_long(client)
    refused = await client.post("/model/reload", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "replicas_not_ready")
    assert "model.onnx does not match" in refused.json()["missing"][0]["error"]
    assert (await predict(client)).json()["version"] == 1


async def test_a_standby_that_answers_nonsense_is_never_swapped_in(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make(bias=float("nan"), incumbent=1)
    do_not_wait_long(client)
    refused = await client.post("/model/reload", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "replicas_not_ready")
    assert refused.json()["missing"][0]["error"] == "100 of 100 smoke scores are not in [0, 1]"


async def test_a_replica_that_cannot_load_what_is_active_is_named_gives_no_receipt_and_loses_its_lease(
    client: httpx.AsyncClient, make: Make, config: Settings, tmp_path: Path
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make_corrupt(client, config, tmp_path)
    do_not_wait_long(client)
    forced = (await client.post("/model/reload", json={"force": True, "reason": "of the test"})).json()
    assert (forced["active"], forced["replicas"]) == (2, [])
    assert forced["missing"] == [str(client_app(client).state.replica.id)]
    async with asyncio.timeout(5):
        while "X-Model-Stale" not in (answer := await predict(client)).headers:
            assert (answer.json()["version"], answer.json()["generation"]) == (1, 1)
            await asyncio.sleep(0.02)


async def test_rollback_goes_past_a_replica_that_cannot_load_and_names_it(
    client: httpx.AsyncClient, make: Make
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make(bias=2.0, incumbent=1)
    await client.post("/model/reload", json={})
    do_not_wait_long(client)
    async with client_sessions(client)() as session, session.begin():
        cold = await replica(session, "fraud", warm=None, served=2, host="cold")
    rolled = await client.post("/model/rollback", json={"reason": "worse"})
    assert rolled.status_code == 200, rolled.text
    assert (rolled.json()["active"], rolled.json()["missing"]) == (1, [str(cold)])


async def test_rollback_demands_a_reason(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    refused = await client.post("/model/rollback", json={})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "reason")


async def test_a_replica_joins_warm_and_leaves_nothing_behind(
    api: FastAPI, client: httpx.AsyncClient, make: Make, session: AsyncSession
) -> None:
    await make(bias=-2.0)
    await until_warm(client, 1)
    assert (await session.scalars(select(ReplicaSlots.replica))).all() == [api.state.replica.id]
    await api.state.replica.leave()
    await session.rollback()
    assert (await session.scalars(select(ReplicaSlots.replica))).all() in ([], [api.state.replica.id])


def test_a_replicas_generation_never_goes_back() -> None:
    held = Slots("fraud", "classifier", 5, None, None)
    late = Wanted("fraud", "classifier", None, None, 4)
    assert converge(late, held, Shelf()) is held


def test_a_replica_does_not_flip_to_what_it_has_not_loaded() -> None:
    held = Slots("fraud", "classifier", 5, None, None)
    assert converge(Wanted("fraud", "classifier", 9, None, 6), held, Shelf()) is None


async def test_a_replica_keeps_what_its_receipt_calls_warm_until_it_has_said_otherwise(
    api: FastAPI, client: httpx.AsyncClient, make: Make, config: Settings, tmp_path: Path
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await make(bias=2.0, incumbent=1)
    await client.post("/model/reload", json={})
    await until_warm(client, 1)
    await client.post("/model/hold", json={"reason": "of the test"})
    await make_corrupt(client, config, tmp_path, number=3)
    async with client_sessions(client)() as session, session.begin():
        stands = {"active": 3, "standby": 2, "generation": ModelSlots.generation + 1}
        await session.execute(update(ModelSlots).values(stands))
    # Version 3 cannot be loaded here, so no receipt says that version 1, which no slot needs any more, has gone.
    await api.state.replica.beat()
    assert 1 in api.state.replica._shelf("fraud").loaded


async def test_a_replica_that_is_leaving_is_not_ready_and_ends_each_connection_with_its_answer(
    api: FastAPI, client: httpx.AsyncClient, make: Make
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    api.state.leaving = True
    refused = await client.get("/health/ready")
    assert (refused.status_code, refused.json()["code"]) == (503, "leaving")
    answers = [refused, await predict(client), await client.get("/model/slots")]
    assert [answer.headers["Connection"] for answer in answers] == ["close"] * 3
    assert [answer.status_code for answer in answers[1:]] == [200, 200]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Length": "1000000000000"}, "too_large"),
        ({"Content-Encoding": "gzip"}, "unsupported_encoding"),
        ({"Upgrade": "h2c", "Connection": "Upgrade"}, "upgrade_unsupported"),
    ],
)
async def test_a_prediction_is_refused_by_its_headers_before_its_body_is_read(
    client: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        raise AssertionError("the body was read")

    refused = await client.post("/predict/batch", content=never(), headers=headers)
    assert refused.json()["code"] == code
    assert refused.headers["Connection"] == "close"


async def test_the_express_lane_and_the_route_behind_it_give_the_same_answer(
    api: FastAPI, client: httpx.AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    asked: list[dict[str, Any]] = [{}, {"instances": []}, {"instances": [["x", 1]]}, {"slot": "standby"}]
    express = [await predict(client, **body) for body in asked]
    monkeypatch.setattr(api, "lanes", {})
    routed = [await predict(client, **body) for body in asked]
    assert [told(answer) for answer in express] == [told(answer) for answer in routed]
    assert [answer.status_code for answer in express] == [200, 422, 422, 409]


def told(answer: httpx.Response) -> tuple[Any, ...]:
    body = answer.json()
    body.pop("request_id", None)
    return answer.status_code, answer.headers["Content-Type"], body


async def test_a_prediction_in_another_format_is_the_same_prediction(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    rows = np.array([[0.5, 1.0], [2.0, np.nan]], np.float32)
    file = io.BytesIO()
    np.save(file, rows)
    as_json = await predict(client, instances=[[0.5, 1.0], [2.0, None]])
    as_npy = await client.post(
        "/predict/batch?model=fraud", content=file.getvalue(), headers={"Content-Type": "application/x-npy"}
    )
    assert as_npy.status_code == 200, as_npy.text
    assert as_npy.json()["scores"] == as_json.json()["scores"]


async def test_a_fault_of_ours_is_a_problem_on_the_express_lane_as_well(
    client: httpx.AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    monkeypatch.setattr(predictions, "_told", None)
    failed = await predict(client)
    assert (failed.status_code, failed.json()["code"]) == (500, "internal")
    assert "NoneType" not in failed.text


BAD_BODIES: list[tuple[bytes, int, str]] = [
    (b"{", 422, "invalid_json"),
    (b"[]", 422, "invalid"),
    (b'{"instances": [[NaN, 1]]}', 422, "invalid_json"),
    (b'{"instances": [[1, 2]], "extra": 1}', 422, "invalid"),
    (b'{"instances": [[1, 2]], "slot": "previous"}', 422, "invalid"),
    (b'{"instances": [[1]]}', 422, "invalid_instances"),
    (b'{"instances": [[1, 2], [1, "x"]]}', 422, "invalid_instances"),
    (b'{"instances": []}', 422, "invalid_instances"),
    (b'{"instances": [{"a": 1, "c": 2}]}', 422, "invalid_instances"),
    (b'{"instances": [[1, 2]], "model": "other"}', 404, "model_not_found"),
]


async def test_bad_rows_are_refused_by_name_and_never_echoed(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    for body, status, code in BAD_BODIES:
        response = await client.post("/predict/batch", content=body)
        assert (response.status_code, response.json()["code"]) == (status, code), body


async def test_the_first_bad_row_and_column_are_named(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    response = await predict(client, instances=[[1, 2], [3, None], [4, "secret"]])
    assert [(e["row"], e["column"]) for e in response.json()["errors"]] == [(2, "b")]
    assert "secret" not in response.text


async def test_too_many_rows_are_refused(client: httpx.AsyncClient, make: Make, config: Settings) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    response = await predict(client, instances=[[1, 2]] * (config.max_batch_rows + 1))
    assert (response.status_code, response.json()["code"]) == (413, "too_many_rows")


async def test_a_model_without_an_active_version_says_how_to_get_one(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await until_warm(client, 1)
    response = await predict(client)
    assert (response.status_code, response.json()["code"]) == (409, "no_active_version")
    assert "refit trigger fraud" in response.json()["remedy"]


async def test_metrics_tell_requests_predictions_slots_and_replicas(client: httpx.AsyncClient, make: Make) -> None:
    await make(bias=-2.0)
    await client.post("/model/reload", json={})
    await predict(client)
    text = (await client.get("/metrics")).text
    for line in (
        'refit_requests_total{method="POST",route="/predict/batch",status="200"}',
        'refit_predictions_total{model="fraud",slot="active",version="1"}',
        'refit_slot_version{model="fraud",slot="active"} 1.0',
        'refit_jobs{model="fraud",state="completed"} 1.0',
        'refit_replicas{model="fraud"} 1.0',
        'refit_swaps_total{action="reloaded",model="fraud"} 1.0',
    ):
        assert line in text


async def make_corrupt(client: httpx.AsyncClient, config: Settings, tmp_path: Path, number: int = 2) -> None:
    """A version that passed against the one before it and stands by, with one byte too many on disk."""
    digest = publish(tmp_path / "elsewhere", tmp_path / "copy", bias=float(number))
    folder = artifacts.folder_of(config.store, digest)
    folder.mkdir()
    for file in artifacts.folder_of(tmp_path / "elsewhere", digest).iterdir():
        (folder / file.name).write_bytes(file.read_bytes() + (b" " if file.name == "model.onnx" else b""))
    async with client_sessions(client)() as session, session.begin():
        await version(session, config, "fraud", artifact=digest, incumbent=number - 1)
        await promote(session, "fraud")


def do_not_wait_long(client: httpx.AsyncClient) -> None:
    client_app(client).state.settings.__dict__["reload_wait_seconds"] = 0.5


async def until_warm(client: httpx.AsyncClient, number: int) -> None:
    async with asyncio.timeout(10):
        while True:
            replicas = (await client.get("/model/slots")).json()["replicas"]
            if replicas and all(replica["warm"] == number for replica in replicas):
                return
            await asyncio.sleep(0.02)


def client_app(client: httpx.AsyncClient) -> FastAPI:
    transport: Any = client._transport
    app: FastAPI = transport.app
    return app


def client_sessions(client: httpx.AsyncClient) -> async_sessionmaker[AsyncSession]:
    sessions: async_sessionmaker[AsyncSession] = client_app(client).state.sessions
    return sessions
