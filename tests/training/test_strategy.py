"""How a training is asked to start: by the definition or by the trigger, where the type can."""

from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.definitions.tables import ModelType
from app.errors import Invalid, Refused
from app.settings import Settings
from app.training import service, state
from app.training.tables import TrainingJob
from tests.factories import ALICE, claim, define, definition, trigger

INCREMENTAL = {"strategy": "incremental"}


async def can_go_on(session: AsyncSession, can: bool = True) -> None:
    await define(session)
    await session.execute(update(ModelType).values(incremental=can))


async def test_the_definition_says_how_and_a_trigger_may_say_otherwise(session: AsyncSession, config: Settings) -> None:
    await can_go_on(session)
    await define(session, "plain")
    await define(session, "quick", **INCREMENTAL)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("plain", {}), ("plain", INCREMENTAL), ("quick", {}), ("quick", {"strategy": "full"}),
    ]  # fmt: skip
    found = []
    for model, how in asked:
        job = await trigger(session, config, model, **how)
        found.append(job.strategy)
        await state.request_cancel(session, job.id, actor="test", reason=None)
    assert found == ["full", "incremental", "incremental", "full"]


async def test_jobs_that_start_elsewhere_are_not_equal(session: AsyncSession, config: Settings) -> None:
    await can_go_on(session)
    await define(session, "fraud")
    first = await trigger(session, config, "fraud")
    with pytest.raises(Refused) as refused:
        await trigger(session, config, "fraud", **INCREMENTAL)
    assert refused.value.code == "job_waiting"
    assert (await trigger(session, config, "fraud", strategy="full")).id == first.id


async def test_a_type_that_cannot_is_refused_when_it_is_defined_and_when_it_is_triggered(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await can_go_on(session, can=False)
        await define(session, "fraud")
    body = definition(**INCREMENTAL).model_dump(mode="json")
    answers = [
        await client.put("/models/other", json=body),
        await client.post("/training/trigger", json={"model": "fraud", **INCREMENTAL}),
    ]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(422, "strategy_unsupported")] * 2
    assert all("strategy to full" in a.json()["remedy"] for a in answers)
    types = (await client.get("/training/types")).json()
    assert [each["incremental"] for each in types] == [False]


async def test_a_strategy_that_there_is_not_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/training/trigger", json={"model": "fraud", "strategy": "quick"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "strategy")


async def test_a_worker_that_no_longer_can_stops_what_the_definition_asks_for(
    session: AsyncSession, config: Settings
) -> None:
    await can_go_on(session)
    await define(session, "fraud", **INCREMENTAL)
    await session.execute(update(ModelType).values(incremental=False))
    with pytest.raises(Invalid) as refused:
        await trigger(session, config, "fraud")
    assert refused.value.code == "strategy_unsupported"
    assert (await trigger(session, config, "fraud", strategy="full")).strategy == "full"


async def test_a_job_that_resumes_starts_where_the_old_one_did(session: AsyncSession, config: Settings) -> None:
    await can_go_on(session)
    await define(session, "fraud")
    job = await trigger(session, config, "fraud", **INCREMENTAL)
    held = await claim(session)
    await state.advance(session, held, base=4)
    await state.fail(session, held, {"code": "c", "message": "m", "remedy": "r"})
    resumed = await service.resume(session, config, job.id, ALICE)
    assert (resumed.strategy, resumed.base) == ("incremental", 4)
    assert isinstance(resumed, TrainingJob)
