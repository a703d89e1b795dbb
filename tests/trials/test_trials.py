"""Canary and shadow: who is answered by standby, who never notices, when it is over, and what the report says."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock
from app.events.tables import Event
from app.registry.promotion import promote
from app.serving import shadow
from app.serving.directions import position
from app.settings import Settings
from app.trials.service import end_due
from app.trials.tables import Trial
from tests.served import Make, activate, defined, flush, maker, predict, until_warm

ROWS = [[-2.0, 1.0], [-0.5, None], [0.5, 0.0], [3.0, 0.5]]
CANARY = {"share": 0.5, "minutes": 10, "reason": "of the test"}
SHADOW = {"minutes": 10, "reason": "of the test"}
Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def make(sessions: Sessions, config: Settings, tmp_path: Path) -> Make:
    await defined(sessions, "fraud")
    return maker(sessions, config, tmp_path)


@pytest.fixture
async def two(client: httpx.AsyncClient, make: Make) -> None:
    """Version 1, which says no, is active; version 2, which says yes, stands by."""
    await make(bias=-9.0)
    await activate(client)
    await make(bias=9.0, incumbent=1)
    await until_warm(client, 2)


async def start(api: FastAPI, client: httpx.AsyncClient, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"/model/{kind}", json=body)
    assert answer.status_code == 201, answer.text
    await api.state.directions.read()
    told: dict[str, Any] = answer.json()
    return told


async def ask(client: httpx.AsyncClient, key: str | None = None, **body: Any) -> dict[str, Any]:
    return await predict(client, [[0.0, 0.0]], headers={"X-Routing-Key": key} if key else {}, **body)


async def test_a_canary_answers_the_same_callers_each_time_and_names_itself(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY | {"share": 0.3})
    keys = [f"customer-{place}" for place in range(300)]
    first = [await ask(client, key) for key in keys]
    again = [await ask(client, key) for key in keys]
    assert [a["version"] for a in first] == [a["version"] for a in again]
    by_standby = [a for a in first if a["version"] == 2]
    assert all((a["slot"], a["labels"]) == ("standby", ["yes"]) for a in by_standby)
    # Within four standard errors of a binomial share.
    assert abs(len(by_standby) / 300 - 0.3) < 4 * (0.3 * 0.7 / 300) ** 0.5
    assert {(await ask(client))["version"] for _ in range(20)} == {1}
    assert (await ask(client, keys[0], slot="active"))["version"] == first[0]["version"]


def test_the_share_is_that_of_the_keys_and_another_trial_meets_others() -> None:
    places = np.array([position(b"one", f"key-{n}") for n in range(20_000)])
    others = np.array([position(b"two", f"key-{n}") for n in range(20_000)])
    for share in (0.01, 0.1, 0.5):
        assert abs((places < share).mean() - share) < 4 * (share * (1 - share) / 20_000) ** 0.5
    assert abs(np.corrcoef(places, others)[0, 1]) < 0.03


async def test_a_canary_is_over_the_moment_standby_or_active_is_another_version(
    api: FastAPI, client: httpx.AsyncClient, two: None, make: Make, sessions: Sessions
) -> None:
    await start(api, client, "canary", CANARY)
    key = await lucky(client)
    await make(bias=3.0, incumbent=1)
    assert (await client.post("/model/versions/fraud/3/stage", json={})).status_code == 200
    await until_warm(client, 3)
    assert (await ask(client, key))["version"] == 1
    ended = await until_ended(client)
    assert (ended["state"], ended["why"]) == ("ended", "version 2 no longer stands by")
    await start(api, client, "canary", CANARY)
    await activate(client)
    assert (await until_ended(client))["why"] == "version 1 is no longer active"
    async with sessions() as session:
        kinds = select(Event.kind).where(Event.kind.like("canary.%")).order_by(Event.id)
        assert (await session.scalars(kinds)).all() == ["canary.started", "canary.ended"] * 2


async def test_what_passes_the_gate_meanwhile_waits_for_the_end_of_a_trial(
    api: FastAPI, client: httpx.AsyncClient, two: None, make: Make, sessions: Sessions
) -> None:
    await start(api, client, "canary", CANARY)
    await make(bias=3.0, incumbent=1)
    async with sessions() as session, session.begin():
        told = (await session.scalars(select(Event).where(Event.kind == "slots.put_off"))).one()
    assert (told.after, told.version) == ("trial_running", 3)
    assert (await client.get("/model/slots?model=fraud")).json()["standby"] == 2
    await client.post("/model/canary/stop", json={"model": "fraud", "reason": "seen enough"})
    async with sessions() as session, session.begin():
        await promote(session, "fraud")
    await until_warm(client, 3)


async def test_a_canary_ends_when_its_time_is_over_also_where_postgres_is_away(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(api, client, "canary", CANARY)
    key = await lucky(client)

    async def away() -> None:
        raise OSError("Postgres is away")

    monkeypatch.setattr(api.state.directions, "read", away)
    later = time.monotonic() + 601
    monkeypatch.setattr("app.serving.directions.time.monotonic", lambda: later)
    assert (await ask(client, key))["version"] == 1


async def test_a_trial_ends_by_its_limits(
    api: FastAPI, client: httpx.AsyncClient, two: None, sessions: Sessions
) -> None:
    await start(api, client, "canary", CANARY | {"max_requests": 5})
    key = await lucky(client)
    told = [(await ask(client, key))["version"] for _ in range(10)]
    assert told.count(2) <= 5
    await flush(api)
    assert (await until_ended(client))["why"] == "standby has answered its 5 requests"
    await start(api, client, "shadow", SHADOW)
    async with sessions() as session, session.begin():
        await session.execute(update(Trial).where(Trial.state == "running").values(ends_at=clock()))
        assert await end_due(session) == 1
    assert (await until_ended(client))["why"] == "its time is over"


@pytest.mark.parametrize("kind", ["canary", "shadow"])
async def test_there_is_one_trial_at_a_time_and_people_can_stop_it(
    api: FastAPI, client: httpx.AsyncClient, two: None, kind: str
) -> None:
    body = CANARY if kind == "canary" else SHADOW
    await start(api, client, kind, body)
    refused = await client.post("/model/canary", json=CANARY)
    assert (refused.status_code, refused.json()["code"]) == (409, "trial_running")
    stopped = await client.post(f"/model/{kind}/stop", json={"reason": "enough"})
    assert (stopped.json()["state"], stopped.json()["why"]) == ("ended", "enough")
    assert (await client.post(f"/model/{kind}/stop", json={"reason": "x"})).json()["code"] == "no_trial"
    await api.state.directions.read()
    assert {(await ask(client, f"key-{n}"))["version"] for n in range(20)} == {1}


async def test_nothing_is_tried_without_a_standby_that_is_warm_everywhere(
    client: httpx.AsyncClient, make: Make, session: AsyncSession
) -> None:
    from tests.factories import replica

    assert (await client.post("/model/canary", json=CANARY)).json()["code"] == "no_active_version"
    await make(bias=-9.0)
    await activate(client)
    assert (await client.post("/model/canary", json=CANARY)).json()["code"] == "standby_empty"
    await make(bias=9.0, incumbent=1)
    await until_warm(client, 2)
    async with session.begin():
        await replica(session, "fraud", warm=None)
    assert (await client.post("/model/shadow", json=SHADOW)).json()["code"] == "replicas_not_ready"


async def test_a_held_model_gets_no_canary_and_a_hold_ends_one(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY)
    await client.post("/model/hold", json={"reason": "audit"})
    assert (await until_ended(client))["why"] == "the model is held: audit"
    assert (await client.post("/model/canary", json=CANARY)).json()["code"] == "held"
    await start(api, client, "shadow", SHADOW)


@pytest.mark.parametrize(
    "change", [{"share": 0}, {"share": 0.6}, {"minutes": 0}, {"reason": ""}, {"max_requests": 0}, {"share": "NaN"}]
)
async def test_a_trial_that_cannot_be_is_refused(client: httpx.AsyncClient, two: None, change: dict[str, Any]) -> None:
    assert (await client.post("/model/canary", json=CANARY | change)).status_code == 422


async def test_a_report_by_a_label_column_that_there_is_not_is_refused(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY)
    answer = await client.get("/model/trial?head=nope")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_head")


async def test_the_report_of_a_canary_has_both_arms_with_feedback_and_intervals(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY)
    answers = [await ask(client, f"customer-{place}") for place in range(60)]
    await flush(api)
    items = [{"request_id": a["request_id"], "label": "yes"} for a in answers]
    items += [{"request_id": a["request_id"], "accepted": a["version"] == 2} for a in answers]
    told = await client.post("/feedback", json={"feedback": items})
    assert told.json()["joined"] == 120, told.text
    report = (await client.get("/model/trial")).json()
    old, new = report["active"], report["standby"]
    assert old["rows"] + new["rows"] == 60
    assert (old["version"], old["slot"], old["labels"]) == (1, "active", {"no": 1.0, "yes": 0.0})
    assert (new["version"], new["slot"], new["labels"]) == (2, "canary", {"no": 0.0, "yes": 1.0})
    assert (old["accuracy"]["value"], new["accuracy"]["value"], new["f1"]["value"]) == (0.0, 1.0, 1.0)
    assert new["accuracy"]["n"] == new["rows"]
    assert report["differences"]["accuracy"]["low"] > 0.5
    assert report["differences"]["acceptance"]["value"] == 1.0
    assert report["differences"]["f1"]["low"] == 1.0
    assert (old["error_rate"]["value"], report["compared"]) == (0.0, None)
    assert 0 < old["latency_p50"] <= old["latency_p99"] < 1


async def test_a_shadow_is_asked_the_same_and_nobody_sees_it(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "shadow", SHADOW)
    answers = [await predict(client, ROWS) for _ in range(10)]
    assert {(a["version"], a["slot"]) for a in answers} == {(1, "active")}
    await until_compared(api, 10)
    await flush(api)
    report = (await client.get("/model/trial")).json()
    assert (report["standby"]["requests"], report["standby"]["slot"]) == (10, "shadow")
    assert report["standby"]["labels"] == {"no": 0.0, "yes": 1.0}
    compared = report["compared"]
    assert (compared["rows"], compared["agreement"]["value"], compared["dropped"]) == (40, 0.0, 0)
    assert compared["mean_score_difference"] > 0.9
    assert (report["active"]["requests"], report["trial"]["requests"]) == (10, 10)
    # What it said is nobody's answer.
    assert (await client.get("/model/trials")).json()["data"][0]["agreed"] == 0


async def test_a_shadow_that_hangs_delays_no_answer_and_what_it_cannot_do_is_dropped_and_counted(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MOST_REQUESTS", 3)
    await start(api, client, "shadow", SHADOW)
    standby = api.state.replica.slots["fraud"].standby
    slow = standby.predictor.predict

    def hang(batch: Any) -> Any:
        time.sleep(0.5)
        return slow(batch)

    monkeypatch.setattr(standby.predictor, "predict", hang)
    began = time.perf_counter()
    for _ in range(20):
        assert (await predict(client, ROWS))["version"] == 1
    assert time.perf_counter() - began < 0.5
    await asyncio.sleep(0.05)
    seen = next(iter(api.state.directions.seen.values()))
    assert seen.dropped >= 16
    assert len(api.state.shadow._queue) <= 3


async def test_a_shadow_that_fails_is_counted_and_never_answered(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(api, client, "shadow", SHADOW)
    standby = api.state.replica.slots["fraud"].standby

    def broken(_: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(standby.predictor, "predict", broken)
    for _ in range(3):
        assert (await predict(client, ROWS))["version"] == 1
    async with asyncio.timeout(5):
        while api.state.shadow._queue:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    await flush(api)
    report = (await client.get("/model/trial")).json()
    assert (report["standby"]["errors"], report["standby"]["error_rate"]["value"]) == (3, 1.0)


async def lucky(client: httpx.AsyncClient) -> str:
    """A caller whom standby answers."""
    for place in range(200):
        if (await ask(client, f"key-{place}"))["version"] == 2:
            return f"key-{place}"
    raise AssertionError("the canary answers nobody")


async def until_ended(client: httpx.AsyncClient) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            trial: dict[str, Any] = (await client.get("/model/trial")).json()["trial"]
            if trial["state"] == "ended":
                return trial
            await asyncio.sleep(0.05)


async def until_compared(api: FastAPI, requests: int) -> None:
    async with asyncio.timeout(10):
        while sum(seen.requests for seen in api.state.directions.seen.values()) < requests:
            await asyncio.sleep(0.02)
