"""One try to deliver one message, within one limit of time. Whatever happens is an outcome, never an exception.

A webhook is signed after Standard Webhooks (https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp` and
`webhook-signature: v1,<base64 of HMAC-SHA256 of "id.timestamp.body">`. It is sent by httpcore and not by httpx, which
would have to be told not to follow redirects, keep cookies, read the environment, or write URLs into the log.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib.metadata import version
from types import TracebackType
from typing import Self

import httpcore
import httpx
from standardwebhooks import Webhook

from app.notifications import chat
from app.notifications.address import REMEDY, AddressRefused, GuardedBackend, Resolve, Resolver
from app.notifications.messages import Message
from app.settings import Settings

CONNECT_SECONDS = 5.0
MOST_OF_AN_ANSWER = 4096
GONE = 410
# Those that ask for patience, and may say how much.
BUSY = frozenset({429, 503})
LONGEST_WAIT_SECONDS = 86_400.0


@dataclass(frozen=True)
class Address:
    """A target as a try needs it. Not shown anywhere, by repr neither."""

    type: str
    url: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Address({self.type})"


@dataclass(frozen=True)
class Outcome:
    """`error` null: delivered. `retry_after` seconds where the target asked for them; `gone`: it wants no more."""

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    ms: float = 0.0

    @property
    def gone(self) -> bool:
        return self.status == GONE


class Sender:
    """Sends within `notification_timeout_seconds`. Closed at the end."""

    def __init__(self, settings: Settings, resolve: Resolve | None = None) -> None:
        self._seconds = settings.notification_timeout_seconds
        self._own = Resolver()
        self._backend = GuardedBackend(resolve or self._own, settings.networks)
        self._chat = chat.Chat()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._own.close()
        self._chat.close()

    async def send(self, address: Address, message: Message, now: datetime) -> Outcome:
        """`now` is the database's, which signs: a process whose clock is wrong sends what is right."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds):
                outcome = await self._send(address, message, now)
        except TimeoutError:
            outcome = Outcome(error=f"it did not finish its answer within {self._seconds:g} s")
        except Exception as error:  # noqa: BLE001 - a library's surprise is an outcome, and its words may hold the URL
            outcome = Outcome(error=f"it could not be sent ({type(error).__name__})")
        return replace(outcome, ms=round((time.perf_counter() - began) * 1000, 1))

    async def _send(self, address: Address, message: Message, now: datetime) -> Outcome:
        if address.type == "apprise":
            return Outcome(error=await self._chat.send(address.url, message))
        try:
            return await self._post(address, message, now)
        except AddressRefused as error:
            return Outcome(error=f"{error}; {REMEDY}")
        except httpcore.ConnectTimeout:
            return Outcome(error=f"no connection within {CONNECT_SECONDS:g} s")
        except httpcore.ConnectError as error:
            return Outcome(error=f"no connection: {_told(error)}")
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Outcome(error=f"the connection broke ({type(error).__name__})")

    async def _post(self, address: Address, message: Message, now: datetime) -> Outcome:
        headers = {**address.headers, **_own_headers(address, message, now)}
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=1, max_keepalive_connections=0, network_backend=self._backend
            ) as pool,
            pool.stream(
                "POST",
                address.url,
                headers=list(headers.items()),
                content=message.body,
                extensions={"timeout": {"connect": min(CONNECT_SECONDS, self._seconds)}},
            ) as response,
        ):
            read = 0
            async for part in response.aiter_stream():
                read += len(part)
                if read >= MOST_OF_AN_ANSWER:
                    break
            return _judged(response, now)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The usual authorities, or those of SSL_CERT_FILE."""
        return httpx.create_ssl_context()


def _own_headers(address: Address, message: Message, now: datetime) -> dict[str, str]:
    body = message.body.decode()
    # The library signs what stands in the time, whatever its zone is.
    now = now.astimezone(UTC)
    signatures = " ".join(Webhook(secret).sign(message.id, now, body) for secret in address.secrets)
    return {
        "content-type": "application/json",
        "user-agent": f"refit/{version('refit')}",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signatures,
    }


def _judged(response: httpcore.Response, now: datetime) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Outcome(status)
    if 300 <= status < 400:
        return Outcome(status, f"it answered {status}, a redirect, and none is followed: name where it really is")
    wait = _retry_after(response, now) if status in BUSY else None
    return Outcome(status, f"it answered {status}", wait)


def _retry_after(response: httpcore.Response, now: datetime) -> float | None:
    """Seconds or a date (RFC 9110), at most a day; None where it says nothing that can be read."""
    told = next((value.decode("latin-1") for name, value in response.headers if name.lower() == b"retry-after"), "")
    if told.isdecimal():
        return min(LONGEST_WAIT_SECONDS, float(told))
    with suppress(ValueError, TypeError, OverflowError):
        return min(LONGEST_WAIT_SECONDS, max(0.0, (parsedate_to_datetime(told) - now).total_seconds()))
    return None


def _told(error: httpcore.ConnectError) -> str:
    """Ours and the system's say no more than what is wrong; a certificate's fault says which."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not valid ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or "refused"
