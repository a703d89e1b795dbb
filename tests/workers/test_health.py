"""A worker's container is healthy for as long as a worker in it holds its lease."""

import uuid

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.settings import Settings
from app.training.tables import Worker
from workers.health import why_unhealthy


async def sign_on(session: AsyncSession, *, host: str, lease: float) -> None:
    until = clock() + seconds(lease)
    row = {"id": uuid.uuid4(), "host": host, "pid": 1, "queues": ["cpu"], "concurrency": 1, "lease_until": until}
    async with session.begin():
        await session.execute(insert(Worker).values(row))


async def test_a_worker_that_holds_its_lease_is_healthy(session: AsyncSession, config: Settings) -> None:
    await sign_on(session, host="here", lease=15)
    assert why_unhealthy(config, "here") is None


@pytest.mark.parametrize(("host", "lease"), [("here", -1), ("elsewhere", 15)])
async def test_a_lease_that_ran_out_or_is_anothers_does_not_count(
    session: AsyncSession, config: Settings, host: str, lease: float
) -> None:
    await sign_on(session, host=host, lease=lease)
    assert why_unhealthy(config, "here") == "no worker on here holds a lease"


def test_without_postgres_it_is_unhealthy_and_says_why_without_the_password() -> None:
    why = why_unhealthy(Settings(database_url="postgresql://me:hush@127.0.0.1:1/refit"), "here")
    assert why is not None
    assert "refused" in why
    assert "hush" not in why


def test_without_a_setting_it_is_unhealthy_and_names_it() -> None:
    assert "REFIT_DATABASE_URL is not set" in (why_unhealthy(Settings(database_url=None), "here") or "")
