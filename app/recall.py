"""Answers for those who poll: kept in memory until NOTIFY says that they may have changed, and a second at most.

Only requests with `If-None-Match` are answered from here. Whoever asks without one may have changed something a moment
ago and wants to read it back: that is read from Postgres.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope

from app.auth.requires import authenticate
from app.auth.roles import Principal, Role
from app.express import Answer
from app.http import Headers, header
from app.news import News, Topic

# What is true by the clock alone (a lease that ran out) and a NOTIFY that was lost are seen after so long.
FRESH_SECONDS = 1.0
# After this share of it a poll begins to read again, and waits for nothing. To read takes some hundredths of it.
AHEAD = 0.8
KEPT = 4_096


@dataclass(frozen=True)
class Told:
    """An answer as it is sent: `topics` are what it speaks of."""

    view: BaseModel
    body: bytes
    etag: str
    topics: tuple[Topic, ...]

    @classmethod
    def of(cls, view: BaseModel, *topics: Topic, etag: str | None = None) -> "Told":
        """Without an `etag` of its own, that is the body's digest."""
        body = view.model_dump_json().encode()
        return cls(view, body, etag or f'"{hashlib.sha256(body).hexdigest()[:32]}"', topics)

    @property
    def headers(self) -> Headers:
        return [(b"etag", self.etag.encode()), (b"cache-control", b"no-cache")]

    def is_known_by(self, if_none_match: str) -> bool:
        return self.etag in if_none_match or if_none_match == "*"


Read = Callable[[], Awaitable[Told]]


@dataclass(frozen=True)
class Kept:
    """An answer, how to read it again, and when that was done last: at which word of the news, at which time."""

    told: Told
    read: Read
    count: int
    read_at: float


class Memory:
    """`poll` answers what was read before; `recall` reads what never was. Each key is read once for all who ask."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._kept: dict[str, Kept] = {}
        self._reading: dict[str, asyncio.Task[Told]] = {}

    async def poll(self, key: str) -> Told | None:
        """What is kept for `key`, read again where it may have changed; None where nothing is."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age = time.monotonic() - kept.read_at
        if age > FRESH_SECONDS or not self._news.is_quiet_since(kept.count, kept.told.topics):
            return await self.recall(key, kept.read)
        if age > FRESH_SECONDS * AHEAD and key not in self._reading:
            self._begin(key, kept.read)
        return kept.told

    async def recall(self, key: str, read: Read) -> Told:
        """`read` opens a session of its own: the one who asked first may be gone before it ends."""
        return await asyncio.shield(self._reading.get(key) or self._begin(key, read))

    def _begin(self, key: str, read: Read) -> asyncio.Task[Told]:
        reading = self._reading[key] = asyncio.create_task(self._read(key, read))
        reading.add_done_callback(lambda _: self._reading.pop(key))
        # Nobody may be waiting for it, and whoever is gets the error all the same.
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return reading

    async def _read(self, key: str, read: Read) -> Told:
        count, read_at = self._news.count, time.monotonic()
        told = await read()
        self._kept.pop(key, None)
        self._kept[key] = Kept(told, read, count, read_at)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return told


def key_of(scope: Scope, reader: Principal) -> str:
    """What a poll is remembered by: its path and its query, as they were written, and whether it may be told what only
    trainers are."""
    return f"{reader.may(Role.TRAINER)} {scope['path']}?{str(scope['query_string'], 'latin-1')}"


async def answer_poll(scope: Scope, _: Receive) -> Answer | None:
    """A lane: 304, or 200 with what is new. Declines what is no poll, and what nobody has asked before."""
    known = header(scope, b"if-none-match")
    if not known:
        return None
    reader = await authenticate(scope, Role.VIEWER)
    told = await scope["app"].state.memory.poll(key_of(scope, reader))
    return None if told is None else _answer_to(known, told)


def response(told: Told, if_none_match: str | None) -> Response:
    """The same answer, where a route gives it."""
    status, headers, body = _answer_to(if_none_match, told)
    response = Response(body, status)
    response.raw_headers[:] = headers if status == 304 else [*response.raw_headers, *headers]
    return response


def _answer_to(if_none_match: str | None, told: Told) -> Answer:
    if if_none_match and told.is_known_by(if_none_match):
        return Answer(304, told.headers)
    return Answer(200, [(b"content-type", b"application/json"), *told.headers], told.body)
