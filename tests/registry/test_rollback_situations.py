"""Rollback always works: whatever else is away, and whoever else wants something at the same moment."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import db
from app.auth.service import create_key
from app.registry.promotion import promote
from app.registry.swap import Action
from app.registry.tables import ModelSlots
from app.settings import Settings
from tests.artifacts import publish
from tests.factories import claim, define, trigger, version

BACK = {"reason": "of the test"}


@pytest.fixture
async def swapped(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], config: Settings, tmp_path: Path
) -> httpx.AsyncClient:
    """Version 2 is active, version 1 was before it and is warm in standby."""
    async with sessions() as session, session.begin():
        await define(session, "fraud")
    for bias, incumbent in ((-2.0, None), (2.0, 1)):
        digest = publish(config.store, tmp_path / f"new{bias}", bias=bias)
        async with sessions() as session, session.begin():
            await version(session, config, "fraud", artifact=digest, incumbent=incumbent)
            await promote(session, "fraud")
        reloaded = await client.post("/model/reload", json={})
        assert reloaded.status_code == 200, reloaded.text
    return client


async def history(client: httpx.AsyncClient) -> list[str]:
    """Every change of the slots, oldest first."""
    return [row["action"] for row in (await client.get("/model/history")).json()["data"]][::-1]


async def is_back(client: httpx.AsyncClient, answer: httpx.Response) -> bool:
    """200 with the receipt of the replica, which answers by version 1 now."""
    told = answer.json()
    served = [receipt["served"] for receipt in told["replicas"]]
    predicted = (await client.post("/predict/batch", json={"instances": [[0.0, 1.0]]})).json()
    return (answer.status_code, told["active"], told["missing"], served) == (200, 1, [], [told["generation"]]) and (
        predicted["version"],
        predicted["generation"],
    ) == (1, told["generation"])


async def at_once(
    sessions: async_sessionmaker[AsyncSession], *changes: Coroutine[Any, Any, httpx.Response]
) -> list[httpx.Response]:
    """The answers, all asked before any got the row: they queue for it in this order, and again for every next step."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'")
    asked = []
    async with sessions() as holding, holding.begin(), sessions() as looking:
        await holding.execute(select(ModelSlots).with_for_update())
        for number, change in enumerate(changes, 1):
            asked.append(asyncio.create_task(change))
            async with asyncio.timeout(5):
                while await looking.scalar(waiting) < number:
                    await looking.rollback()  # within one transaction the statistics stand still
                    await asyncio.sleep(0.01)
    return await asyncio.gather(*asked)


async def test_rollback_does_not_notice_that_no_artifact_can_be_read_while_the_target_is_warm(
    swapped: httpx.AsyncClient, config: Settings
) -> None:
    config.store.rename(config.data_dir / "away")
    assert await is_back(swapped, await swapped.post("/model/rollback", json=BACK))


async def test_rollback_does_not_notice_a_training_of_the_same_model(
    swapped: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        job = await trigger(session, config, "fraud")
        assert (await claim(session)).job_id == job.id
    assert await is_back(swapped, await swapped.post("/model/rollback", json=BACK))
    assert (await swapped.get("/training/status", params={"job_id": job.id})).json()["status"] == "running"


async def test_two_rollbacks_at_once_both_answer_200_and_make_one_change(
    swapped: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    both = await at_once(sessions, *(swapped.post("/model/rollback", json=BACK) for _ in range(2)))
    assert [await is_back(swapped, answer) for answer in both] == [True, True]
    assert sorted(answer.json()["changed"] for answer in both) == [False, True]
    assert (await history(swapped)).count(Action.ROLLED_BACK) == 1


async def test_of_two_operators_the_one_who_read_the_slots_before_the_last_change_is_refused(
    swapped: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    fresh = (await swapped.get("/model/slots")).headers["ETag"]
    revision = int(fresh.strip('"').partition("/")[0])
    async with sessions() as session, session.begin():
        key = await create_key(session, name="bob", roles=["operator"], actor="test")
    as_bob = {"Authorization": f"Bearer {key}", "If-Match": f'"{revision - 1}"'}
    alice, bob = await at_once(
        sessions,
        swapped.post("/model/rollback", json=BACK, headers={"If-Match": fresh}),
        swapped.post("/model/rollback", json=BACK, headers=as_bob),
    )
    assert await is_back(swapped, alice)
    assert (bob.status_code, bob.json()["code"]) == (412, "stale")
    assert (await history(swapped)).count(Action.ROLLED_BACK) == 1


async def test_a_reload_that_comes_into_the_middle_of_a_rollback_is_refused(
    swapped: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    back, again = await at_once(
        sessions, swapped.post("/model/rollback", json=BACK | {"hold": False}), swapped.post("/model/reload", json={})
    )
    assert await is_back(swapped, back)
    assert (again.status_code, again.json()["code"]) == (409, "standby_is_previous")
    assert (await history(swapped))[-1] == Action.ROLLED_BACK


@pytest.mark.parametrize("broker_url", ["redis://127.0.0.1:1/0"])  # nobody listens there
async def test_rollback_does_not_notice_that_the_broker_is_away(swapped: httpx.AsyncClient) -> None:
    assert await is_back(swapped, await swapped.post("/model/rollback", json=BACK))


async def test_a_swap_waits_for_no_process_that_was_stopped_in_the_middle_of_a_transaction(
    swapped: httpx.AsyncClient, config: Settings
) -> None:
    engine = db.create_engine(config)
    stopped = db.create_sessions(engine)()
    await stopped.execute(select(ModelSlots.model).with_for_update(read=True))  # a heartbeat, and SIGSTOP
    async with asyncio.timeout(db.IDLE_MILLISECONDS / 1_000 + 5):
        assert await is_back(swapped, await swapped.post("/model/rollback", json=BACK))
    await stopped.invalidate()
    await engine.dispose()
