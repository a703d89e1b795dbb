"""The broker's messages as kombu brings them, except that one which is no message is thrown away and nothing else.

kombu has taken a message off its list by the time it reads it, and what it cannot read ends the worker (measured with
kombu 5.7: bytes that are no JSON, and JSON that is no envelope). A few of those would stop all training.
"""

import logging
from typing import Any

from kombu.transport import redis

log = logging.getLogger(__name__)


class Channel(redis.Channel):
    """Reads bells; a lost one is rung again, so nothing that is thrown away here is missed."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu ships no types
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("the broker held something that is no message (%s); thrown away", type(error).__name__)
            return False


class Transport(redis.Transport):
    Channel = Channel
