"""What runs in every API process: empties the outbox, and sends what is due. Any number of them work side by side.

One task speaks to Postgres, and holds at most one connection; sending is done by as many tasks as there are messages.
"""

import asyncio
import logging
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.notifications.deliveries import Claimed, claim, finish
from app.notifications.messages import message_of
from app.notifications.outbox import drain
from app.notifications.sending import Outcome, Sender
from app.settings import Settings

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
# Messages under way in one process.
AT_ONCE = 32
# A try ends before its lease does, whatever the process has to do besides.
LEASE_FACTOR = 2.0

Done = tuple[Claimed, Outcome]


async def keep_telling(sessions: async_sessionmaker[AsyncSession], settings: Settings, sender: Sender) -> None:
    """For ever. What fails is tried again in a second: Postgres may be away."""
    dispatcher = Dispatcher(sessions, settings, sender)
    try:
        while True:
            try:
                await dispatcher.turn()
            except Exception as error:  # noqa: BLE001 - whatever one turn throws, the next one must come
                log.warning("telling failed (%s: %s); it is tried again in a second", type(error).__name__, error)
            await dispatcher.pause()
    finally:
        await dispatcher.leave()


class Dispatcher:
    """Tries under way in this process, and outcomes that are not written yet."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], settings: Settings, sender: Sender) -> None:
        self._sessions, self._settings, self._sender = sessions, settings, sender
        self._running: set[asyncio.Task[None]] = set()
        self._done: list[Done] = []
        self._word = asyncio.Event()

    async def turn(self) -> None:
        """Writes what became of tries, looks at what has happened, and begins what is due."""
        self._word.clear()
        await self._write_outcomes()
        while await self._drain():
            pass
        for claimed in await self._claim():
            task = asyncio.create_task(self._try(claimed))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def pause(self) -> None:
        """Until a try has ended, at most a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_SECONDS):
                await self._word.wait()

    async def leave(self) -> None:
        """Breaks off. What was under way is sent again by others once its lease has run out."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        with suppress(SQLAlchemyError, OSError):
            await self._write_outcomes()

    async def _write_outcomes(self) -> None:
        while self._done:
            async with self._sessions() as session, session.begin():
                await finish(session, *self._done[0], self._settings.retry_seconds)
            self._done.pop(0)

    async def _drain(self) -> int:
        async with self._sessions() as session, session.begin():
            return await drain(session)

    async def _claim(self) -> list[Claimed]:
        free = AT_ONCE - len(self._running) - len(self._done)
        lease = self._settings.notification_timeout_seconds * LEASE_FACTOR
        async with self._sessions() as session, session.begin():
            return await claim(session, most=free, lease_seconds=lease) if free > 0 else []

    async def _try(self, claimed: Claimed) -> None:
        try:
            message = message_of(claimed.message, claimed.events, claimed.suppressed, self._settings.url)
            outcome = await self._sender.send(claimed.address, message, claimed.now)
        except Exception as error:  # noqa: BLE001 - a message that cannot be made is a failed try like any other
            outcome = Outcome(error=f"the message could not be made ({type(error).__name__})")
        self._done.append((claimed, outcome))
        self._word.set()
