"""Mail and chats through Apprise, the extra `notifications`.

Apprise does its own networking, in threads: the rules of `address.py` do not hold for it, which is why only operators
make targets. Its own log might say what is in a URL, so it is silenced.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from app.errors import Invalid
from app.notifications.messages import Message

# A mail server that hangs holds a thread until the socket's own limit.
THREADS = 4
MISSING = "Apprise is not installed"


class Chat:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "apprise")

    async def send(self, url: str, message: Message) -> str | None:
        """Null where it was delivered; else what went wrong, without the URL."""
        if not is_installed():
            return f"{MISSING}: pip install 'refit[notifications]' where the API runs"
        return await asyncio.get_running_loop().run_in_executor(self._threads, _notify, url, message)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_installed() -> bool:
    return find_spec("apprise") is not None


def check(url: str) -> None:
    """Raises Invalid where Apprise is missing, or does not know such a URL."""
    if not is_installed():
        remedy = "pip install 'refit[notifications]' where the API runs, or use a webhook."
        raise Invalid(f"{MISSING}.", code="apprise_missing", remedy=remedy)
    if _service(url) is None:
        remedy = "https://appriseit.com lists what a URL of each service looks like."
        raise Invalid("Apprise knows no service of this URL.", code="apprise_url", remedy=remedy)


def _service(url: str) -> Any | None:
    import apprise  # noqa: PLC0415 - an extra, and a second that nobody waits for who has no such target

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    # Not from a folder of plugins, nor with files of its own.
    asset = apprise.AppriseAsset(plugin_paths=[], storage_mode=apprise.PersistentStoreMode.MEMORY)
    return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


def _notify(url: str, message: Message) -> str | None:
    service = _service(url)
    if service is None:
        return "Apprise knows no service of its URL"
    told = service.notify(title=message.title, body=message.text)
    return None if told else "the service did not take it; `apprise -vv URL` on the API's machine says why"
