from collections.abc import AsyncIterator

import pytest

from app.notifications.sending import Sender
from app.settings import Settings


@pytest.fixture
def config(config: Settings) -> Settings:
    """Loopback may be reached, a try takes a second, and the next one comes at once."""
    told = {
        "notification_networks": "127.0.0.0/8",
        "notification_timeout_seconds": 1.0,
        "notification_retry_seconds": "0,0,0",
    }
    return config.model_copy(update=told)


@pytest.fixture
async def sender(config: Settings) -> AsyncIterator[Sender]:
    async with Sender(config) as sender:
        yield sender
