"""A worker finds its jobs in Postgres, whether or not a bell rings."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.settings import Settings
from app.training.tables import TrainingJob
from tests.factories import define, trigger
from workers import dispatch
from workers.dispatch import Dispatcher

NOBODY_LISTENS = "redis://127.0.0.1:1"


class Begun:
    """Stands for an attempt: it tells which job it was given, and that is all."""

    jobs: list[int]
    one: threading.Event

    def __init__(
        self, settings: Settings, sessions: object, job: TrainingJob, draining: object, asked_at: float
    ) -> None:
        self._job = job

    async def run(self) -> None:
        self.jobs.append(self._job.id)
        self.one.set()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> type[Begun]:
    Begun.jobs, Begun.one = [], threading.Event()
    monkeypatch.setattr(dispatch, "Attempt", Begun)
    return Begun


@pytest.fixture
async def waiting(sessions: async_sessionmaker[AsyncSession], config: Settings) -> TrainingJob:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        return await trigger(session, config, "fraud")


@pytest.fixture
async def dispatcher(config: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Dispatcher]:
    """One whose broker is away."""
    own = config.model_copy(update={"broker_url": NOBODY_LISTENS})
    monkeypatch.setattr(dispatch, "settings", lambda: own)
    dispatcher = Dispatcher()
    yield dispatcher
    await asyncio.to_thread(dispatcher.stop)
    dispatcher._loop.close()


async def test_what_waits_is_run_although_no_bell_ever_rings(
    waiting: TrainingJob, begun: type[Begun], dispatcher: Dispatcher
) -> None:
    dispatcher.start()
    assert await asyncio.to_thread(begun.one.wait, 10)
    assert begun.jobs == [waiting.id]
