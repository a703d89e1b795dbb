"""What others measured is kept once, however often it is told, and read newest first."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.feedback.learning import recent_learning, recent_metric
from app.settings import Settings
from tests import factories
from tests.served import defined

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture(autouse=True)
async def fraud(sessions: Sessions) -> None:
    await defined(sessions, "fraud")


async def test_learning_cycles_are_read_newest_first_as_the_runbook_asks_for_them(
    client: httpx.AsyncClient, sessions: Sessions
) -> None:
    for cycle, rate in enumerate([0.9, 0.7, 0.5, 0.4, 0.3, 0.2]):
        told = await client.post("/metrics/learning", json={"cycle": cycle, "accept_rate": rate})
        assert (told.status_code, told.json()["replayed"]) == (202, False)
    async with sessions() as session:
        assert [row.accept_rate for row in await recent_learning(session, "fraud", 5)] == [0.2, 0.3, 0.4, 0.5, 0.7]
    page = (await client.get("/metrics/learning?limit=4")).json()
    assert [row["cycle"] for row in page["data"]] == ["5", "4", "3", "2"]
    rest = (await client.get(f"/metrics/learning?after={page['next']}")).json()
    assert ([row["cycle"] for row in rest["data"]], rest["has_more"]) == (["1", "0"], False)


@pytest.mark.parametrize("same", [{"body": {"cycle": 7}}, {"headers": {"Idempotency-Key": "a"}}])
async def test_a_cycle_that_is_told_again_is_kept_once(client: httpx.AsyncClient, same: dict[str, Any]) -> None:
    body, headers = {"accept_rate": 0.5} | same.get("body", {}), same.get("headers", {})
    told = [await client.post("/metrics/learning", json=body, headers=headers) for _ in range(2)]
    assert [answer.json()["replayed"] for answer in told] == [False, True]
    assert told[0].json()["id"] == told[1].json()["id"]
    assert len((await client.get("/metrics/learning")).json()["data"]) == 1


@pytest.mark.parametrize(
    ("same", "code"),
    [
        ({"body": {"cycle": 7}}, "cycle_known"),
        ({"headers": {"Idempotency-Key": "a"}}, "idempotency_key_reused"),
    ],
)
async def test_a_cycle_that_is_told_otherwise_than_before_is_refused_and_not_dropped(
    client: httpx.AsyncClient, same: dict[str, Any], code: str
) -> None:
    await client.post("/metrics/learning", json={"accept_rate": 0.9})
    for rate, answer in ((0.5, None), (0.4, code)):
        body = {"accept_rate": rate} | same.get("body", {})
        told = (await client.post("/metrics/learning", json=body, headers=same.get("headers", {}))).json()
        assert told.get("code") == answer


async def test_a_value_that_is_told_otherwise_than_before_is_refused_by_its_place_and_nothing_is_kept(
    client: httpx.AsyncClient,
) -> None:
    bleu = {"name": "bleu", "value": 0.31, "at": "2026-11-20T03:00:00Z"}
    refused = await client.post("/metrics/observations", json={"observations": [bleu, bleu | {"value": 0.4}]})
    assert (refused.status_code, refused.json()["code"]) == (422, "value_known")
    assert refused.json()["errors"][0]["field"] == "observations.1.value"
    assert (await client.get("/metrics/observations")).json()["data"] == []


async def test_an_idempotency_key_is_for_one_body(client: httpx.AsyncClient) -> None:
    told = []
    for value in (0.31, 0.4):
        body = {"observations": [{"name": "bleu", "value": value}]}
        told.append(await client.post("/metrics/observations", json=body, headers={"Idempotency-Key": "a"}))
    assert (told[0].status_code, told[1].json()["code"]) == (202, "idempotency_key_reused")


async def test_a_rate_is_reckoned_from_what_was_accepted_and_rejected(client: httpx.AsyncClient) -> None:
    await client.post("/metrics/learning", json={"accepted": 3, "rejected": 1, "metrics": {"loss": 0.2}})
    [row] = (await client.get("/metrics/learning")).json()["data"]
    assert (row["accept_rate"], row["metrics"]) == (0.75, {"loss": 0.2})


NO_CYCLES: list[dict[str, Any]] = [
    {},
    {"accepted": 0, "rejected": 0},
    {"accept_rate": 1.5},
    {"accept_rate": True},
    {"accepted": 5},
    {"accept_rate": 0.5, "cycle": -1},
    {"accept_rate": 0.5, "cycle": "\0"},
    {"accept_rate": 0.5, "at": "2026-11-21T03:00:00"},
    {"accept_rate": 0.5, "at": "9999-12-31T23:59:59-23:00"},
    {"accept_rate": 0.5, "at": "0001-01-01T00:00:00+23:00"},
    {"accept_rate": 0.5, "accepted": 9, "rejected": 1},
    {"accept_rate": 0.5, "cycle": True},
    {"accept_rate": 0.5, "metrics": {"a": "\0"}},
]


async def test_a_cycle_that_cannot_be_is_refused(client: httpx.AsyncClient) -> None:
    for body in NO_CYCLES:
        assert (await client.post("/metrics/learning", json=body)).status_code == 422, body


async def test_metrics_of_any_name_are_kept_once_and_found_by_name_version_and_time(
    client: httpx.AsyncClient, sessions: Sessions, config: Settings
) -> None:
    async with sessions() as session, session.begin():
        for _ in range(2):
            await factories.version(session, config, "fraud")
    points = [
        {"name": "bleu", "value": 0.31, "at": "2026-11-20T03:00:00Z"},
        {"name": "bleu", "value": 0.33, "version": 2, "at": "2026-11-21T03:00:00Z", "n": 100, "source": "nightly"},
        {"name": "empathy", "value": 4.2, "at": "2026-11-21T03:00:00Z"},
    ]
    first = (await client.post("/metrics/observations", json={"observations": points})).json()
    again = (await client.post("/metrics/observations", json={"observations": points})).json()
    assert (first["duplicate"], again["duplicate"]) == (0, 3)
    async with sessions() as session:
        assert [p.value for p in await recent_metric(session, "fraud", "bleu")] == [0.33, 0.31]
        assert [p.value for p in await recent_metric(session, "fraud", "bleu", version=2)] == [0.33, 0.31]
        since = datetime(2026, 11, 21, tzinfo=UTC)
        assert [p.n for p in await recent_metric(session, "fraud", "bleu", since=since)] == [100]
    listed = (await client.get("/metrics/observations?name=bleu")).json()["data"]
    assert [(point["value"], point["source"]) for point in listed] == [(0.33, "nightly"), (0.31, "api")]


async def test_a_value_of_a_version_that_there_is_not_is_refused_by_its_place_and_nothing_is_kept(
    client: httpx.AsyncClient,
) -> None:
    points = [{"name": "bleu", "value": 0.3}, {"name": "bleu", "value": 0.4, "version": 77}]
    refused = await client.post("/metrics/observations", json={"observations": points})
    assert (refused.status_code, refused.json()["code"]) == (422, "version_not_found")
    assert refused.json()["errors"][0]["field"] == "observations.1.version"
    assert (await client.get("/metrics/observations")).json()["data"] == []


async def test_points_without_a_time_are_kept_once_by_their_idempotency_key(client: httpx.AsyncClient) -> None:
    body = {"observations": [{"name": "rouge", "value": 0.4}, {"name": "rouge", "value": 0.5}]}
    for _ in range(2):
        await client.post("/metrics/observations", json=body, headers={"Idempotency-Key": "night-7"})
    assert len((await client.get("/metrics/observations")).json()["data"]) == 2
