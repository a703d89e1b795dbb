"""What runs every second, in whichever process gets the lock: sweep, schedules, staging and automatic reloads.

Every API and worker process ticks. The lock is Postgres's and ends with the transaction, so a ticker that dies leaves
nothing behind, and two that tick at once are one.
"""

import asyncio
import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.queue import Bell
from app.registry.promotion import promote
from app.settings import Settings
from app.training.schedule import fire_due
from app.training.sweep import sweep

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
# Any number will do, as long as nothing else in this database takes the same one.
LOCK = 7_283_641


async def tick(session: AsyncSession, settings: Settings) -> list[tuple[int, str, int]]:
    """One tick in the caller's transaction; the bells to ring after its commit. Nothing where another process ticks."""
    mine = await session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK})
    if not mine:
        return []
    await fire_due(session, settings)
    await promote(session)
    return await sweep(session)


async def keep_ticking(sessions: async_sessionmaker[AsyncSession], settings: Settings, bell: Bell) -> None:
    """For ever. A tick that fails is logged and the next one comes: Postgres may be away for a while."""
    while True:
        try:
            async with sessions() as session, session.begin():
                bells = await tick(session, settings)
            for job_id, queue, priority in bells:
                await bell.ring(job_id, queue, priority)
        except (SQLAlchemyError, OSError) as error:
            log.warning("a tick failed (%s); the next one is in a second", error)
        await asyncio.sleep(EVERY_SECONDS)
