"""The doorbell may be lost: nobody fails because nobody hears it."""

import asyncio
from urllib.parse import urlsplit

import psutil

from app.queue import Bell
from app.settings import Settings

NOBODY_LISTENS = "redis://127.0.0.1:1"


async def test_a_broker_that_is_away_is_told_and_raises_nothing() -> None:
    bell = Bell(Settings(broker_url=NOBODY_LISTENS))
    assert not await bell.ring(1, "cpu", 1)
    await bell.drain()


async def test_who_is_cancelled_while_it_rings_leaves_no_connection_to_the_broker(broker_url: str) -> None:
    bell = Bell(Settings(broker_url=broker_url))
    ringing = asyncio.create_task(bell.ring(1, "cpu", 1))
    await asyncio.sleep(0)
    ringing.cancel()
    await asyncio.wait([ringing])
    await bell.drain()
    await asyncio.sleep(0.2)  # for a thread that was not waited for to show its connection
    port = urlsplit(broker_url).port
    to_broker = [c for c in psutil.Process().net_connections() if tuple(c.raddr)[1:] == (port,)]
    assert not [c for c in to_broker if c.status == psutil.CONN_ESTABLISHED]
