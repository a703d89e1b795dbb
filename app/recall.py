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
from app.auth.roles import Role
from app.express import Answer
from app.http import Headers, header
from app.news import News, Topic

# What is true by the clock alone (a lease that ran out) and a NOTIFY that was lost are seen after so long.
FRESH_SECONDS = 1.0
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


@dataclass(frozen=True)
class Kept:
    told: Told
    count: int
    read_at: float


class Memory:
    """`fresh` is what a poll is answered with; `recall` reads where there is nothing fresh, once for all who ask."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._kept: dict[str, Kept] = {}
        self._reading: dict[str, asyncio.Task[Told]] = {}

    def fresh(self, key: str) -> Told | None:
        kept = self._kept.get(key)
        if kept is None or time.monotonic() - kept.read_at > FRESH_SECONDS:
            return None
        return kept.told if self._news.is_quiet_since(kept.count, kept.told.topics) else None

    async def recall(self, key: str, read: Callable[[], Awaitable[Told]]) -> Told:
        """`read` opens a session of its own: the one who asked first may be gone before it ends."""
        if told := self.fresh(key):
            return told
        if key not in self._reading:
            reading = self._reading[key] = asyncio.create_task(self._read(key, read))
            reading.add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(self._reading[key])

    async def _read(self, key: str, read: Callable[[], Awaitable[Told]]) -> Told:
        count, read_at = self._news.count, time.monotonic()
        told = await read()
        self._kept.pop(key, None)
        self._kept[key] = Kept(told, count, read_at)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return told


def key_of(scope: Scope) -> str:
    """What a poll is remembered by: its path and its query, as they were written."""
    return f"{scope['path']}?{str(scope['query_string'], 'latin-1')}"


async def answer_poll(scope: Scope, _: Receive) -> Answer | None:
    """A lane: 304, or 200 with what is new. Declines what is no poll, and what is not remembered."""
    known = header(scope, b"if-none-match")
    told = scope["app"].state.memory.fresh(key_of(scope)) if known else None
    if told is None:
        return None
    await authenticate(scope, Role.VIEWER)
    return _answer_to(known, told)


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
