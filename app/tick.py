"""What runs every second, in whichever process gets the lock: sweep, schedules, promotion, watches, monitors, trials.

Every API and worker process ticks. The lock is Postgres's and ends with the transaction, so a ticker that dies leaves
nothing behind, and two that tick at once are one.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.feedback.joining import join_pending
from app.monitoring.checks import check_due
from app.queue import Bell
from app.records import retention
from app.records.tidy import tidy
from app.registry import borrowed
from app.registry.promotion import promote
from app.settings import Settings
from app.training.schedule import fire_due
from app.training.sweep import ring, sweep
from app.trials.service import end_due
from app.watch.guard import act, assure, guard

log = logging.getLogger(__name__)

Done = TypeVar("Done")

EVERY_SECONDS = 1.0
# Turns between two looks at what has grown old.
TIDY_EVERY = 60
# The same, between two looks at what Ollama has of ours.
BORROWED_EVERY = 300
# Any numbers will do, as long as nothing else in this database takes the same ones.
LOCK, WATCH_LOCK = 7_283_641, 7_283_642


async def keep_ticking(sessions: async_sessionmaker[AsyncSession], settings: Settings, bell: Bell) -> None:
    """For ever. Watches have a turn and a lock of their own: no slow source of another model delays a rollback."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_watch(sessions, settings))
        group.create_task(_keep_house(sessions, settings, bell))


async def _keep_watch(sessions: async_sessionmaker[AsyncSession], settings: Settings) -> None:
    while True:
        await _try(sessions, lambda session: guard(session, settings.store), WATCH_LOCK)
        await _try(sessions, act, WATCH_LOCK)
        await _try(sessions, assure, WATCH_LOCK)
        await asyncio.sleep(EVERY_SECONDS)


async def _keep_house(sessions: async_sessionmaker[AsyncSession], settings: Settings, bell: Bell) -> None:
    """Each chore has a transaction of its own, so that one that fails stops none of the others."""
    removing: set[asyncio.Task[None]] = set()
    for turn in itertools.count():
        await _try(sessions, sweep)
        await _try(sessions, lambda session: fire_due(session, settings))
        await _try(sessions, promote)
        await _try(sessions, lambda session: check_due(session, settings))
        for job_id, queue, priority in await _try(sessions, ring) or []:
            await bell.ring(job_id, queue, priority)
        await _try(sessions, end_due)
        await _try(sessions, join_pending)
        if turn % TIDY_EVERY == 0:
            await _try(sessions, lambda session: tidy(session, settings))
        if gone := await _try(sessions, lambda session: retention.run_hourly(session, settings)):
            # Gigabytes may go: no other chore waits for them.
            _beside(removing, retention.remove_folders(gone))
        if turn % BORROWED_EVERY == 0:
            found = await _try(sessions, lambda session: borrowed.needed(session, settings))
            if found:
                _beside(removing, borrowed.take_away(found))
        await asyncio.sleep(EVERY_SECONDS)


def _beside(running: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    running.add(task := asyncio.create_task(work))
    task.add_done_callback(running.discard)


async def _try(
    sessions: async_sessionmaker[AsyncSession], chore: Callable[[AsyncSession], Awaitable[Done]], lock: int = LOCK
) -> Done | None:
    """None where another process is at it, or where it failed: Postgres may be away, the next second comes."""
    try:
        async with sessions() as session, session.begin():
            mine = await session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock})
            return await chore(session) if mine else None
    except Exception as error:  # noqa: BLE001 - whatever one chore throws, the sweep must come again
        log.warning("a chore failed (%s: %s); it is tried again in a second", type(error).__name__, error)
        return None
