"""The doorbell may be lost: nobody fails because nobody hears it."""

from app.queue import Bell
from app.settings import Settings

NOBODY_LISTENS = "redis://127.0.0.1:1"


async def test_a_broker_that_is_away_is_told_and_raises_nothing() -> None:
    bell = Bell(Settings(broker_url=NOBODY_LISTENS))
    assert not await bell.ring(1, "cpu", 1)
    await bell.drain()
