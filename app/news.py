"""What changed, told to whoever waits in this process: one LISTEN connection, many waiters.

NOTIFY only shortens a wait. Every waiter looks again by itself after a while, and after a lost connection at once.
"""

import asyncio
import logging
from collections import defaultdict

import psycopg

from app.db import listen
from app.settings import Settings

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


class News:
    """`follow` runs for ever; `wait` returns when something was said on a channel, or after `timeout` seconds."""

    def __init__(self, settings: Settings, *channels: str) -> None:
        self._settings = settings
        self._channels = channels
        self._said: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def wait(self, channel: str, timeout: float) -> None:  # noqa: ASYNC109 - a bound on quiet, not on an operation
        said = self._said[channel]
        try:
            async with asyncio.timeout(timeout):
                await said.wait()
        except TimeoutError:
            return

    async def follow(self) -> None:
        while True:
            try:
                async for channel, _ in listen(self._settings, *self._channels):
                    self._tell([channel] if channel else self._channels)
            except (psycopg.Error, OSError) as error:
                log.warning("not listening to Postgres (%s); polling until it is back", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _tell(self, channels: tuple[str, ...] | list[str]) -> None:
        for channel in channels:
            # Whoever waits now is woken; whoever comes later waits for the next word.
            self._said.pop(channel, asyncio.Event()).set()
