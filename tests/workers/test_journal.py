"""What an attempt says is written for as long as its claim stands, and not a line longer."""

import os

import orjson
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.tables import Event
from app.settings import Settings
from app.training import state
from app.training.state import Claim
from app.training.tables import JobLog, JobMetric
from tests.factories import claim, define, expire_lease, trigger
from workers.journal import Journal

SAID = [
    {"kind": "stage", "name": "search", "state": "finished"},
    {"kind": "metric", "name": "loss", "step": 1, "value": 0.5, "stage": "search"},
    {"kind": "log", "message": "hello"},
]


@pytest.fixture
async def held(sessions: async_sessionmaker[AsyncSession], config: Settings) -> Claim:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await trigger(session, config, "fraud")
        return await claim(session)


async def told(sessions: async_sessionmaker[AsyncSession], claim: Claim) -> tuple[int, int, int]:
    """How many stages, points and lines stand in the record after the attempt has said one of each."""
    journal, (news, said) = Journal(sessions, claim), os.pipe()
    os.write(said, b"".join(orjson.dumps(message) + b"\n" for message in SAID))
    os.close(said)
    await journal.read_news(news)
    await journal.write()
    async with sessions() as session:
        stages = await session.scalar(select(func.count()).where(Event.kind == "stage.finished"))
        points = await session.scalar(select(func.count()).select_from(JobMetric))
        lines = await session.scalar(select(func.count()).select_from(JobLog))
    return stages or 0, points or 0, lines or 0


async def test_what_the_runner_says_is_recorded(sessions: async_sessionmaker[AsyncSession], held: Claim) -> None:
    assert await told(sessions, held) == (1, 1, 1)


async def test_a_runner_that_lost_its_job_records_nothing_more(
    sessions: async_sessionmaker[AsyncSession], held: Claim
) -> None:
    async with sessions() as session, session.begin():
        await expire_lease(session, held.job_id)
        await state.expire(session)
    assert await told(sessions, held) == (0, 0, 0)
