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

# A channel and what was said on it: the model that is spoken of.
Topic = tuple[str, str]


class News:
    """`follow` runs for ever; `wait` returns when something was said on a channel, or after `timeout` seconds.

    `count` grows with every word. Who remembers its value and reads afterwards learns from `is_quiet_since` whether
    what was read may have changed.
    """

    def __init__(self, settings: Settings, *channels: str) -> None:
        self.count = 0
        self._settings = settings
        self._channels = channels
        self._said: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._last: dict[Topic, int] = {}
        self._heard: dict[str, int] = {}
        self._deaf_at = 0

    async def wait(self, channel: str, timeout: float, *, since: int | None = None) -> None:  # noqa: ASYNC109 - a bound on quiet, not on an operation
        """With `since`, a former `count`, nothing that was said meanwhile is slept through."""
        if since is not None and max(self._heard.get(channel, 0), self._deaf_at) > since:
            return
        said = self._said[channel]
        try:
            async with asyncio.timeout(timeout):
                await said.wait()
        except TimeoutError:
            return

    def is_quiet_since(self, count: int, topics: tuple[Topic, ...]) -> bool:
        """Whether nothing was said on any of the topics, and nothing can have been missed, since `count` words."""
        return self._deaf_at <= count and all(self._last.get(topic, 0) <= count for topic in topics)

    async def follow(self) -> None:
        while True:
            try:
                async for channel, payload in listen(self._settings, *self._channels):
                    self._tell(channel, payload)
            except (psycopg.Error, OSError) as error:
                log.warning("not listening to Postgres (%s); polling until it is back", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _tell(self, channel: str, payload: str) -> None:
        """No channel: a connection was made, and what was said before that was not heard."""
        self.count += 1
        self._last[channel, payload] = self._heard[channel] = self.count
        if not channel:
            self._deaf_at = self.count
        for told in [channel] if channel else self._channels:
            # Whoever waits now is woken; whoever comes later waits for the next word.
            self._said.pop(told, asyncio.Event()).set()
