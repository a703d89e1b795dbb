"""HTTP/1.1 with as little client as possible: keep-alive connections whose answers carry the times of the wire.

    async with Connection(url, headers=[("Authorization", f"Bearer {key}")]) as connection:
        answer = await connection.request("POST", "/predict/batch", body)

Every time is `time.monotonic()`, which all processes of one machine share.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

import httptools

TIMEOUT_SECONDS = 30.0

_numbers = itertools.count()

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """A whole answer. `headers` are in lower case; `connection` is the number of the TCP connection it came through.

    `due` is when the request should have been sent, `sent` a moment before its first byte was, `done` when the last
    byte of the answer was read.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    connection: int
    due: float
    sent: float
    done: float

    @property
    def seconds(self) -> float:
        """From when the request was due: a stall counts for every request that it delayed, not only for one."""
        return self.done - self.due


@dataclass(frozen=True)
class Lost:
    """A request whose connection ended without a whole answer: whether it was carried out is not known."""

    connection: int
    due: float
    sent: float
    done: float
    why: str


class ConnectionLost(Exception):
    """The connection could not be made, or it ended without a whole answer, or none came within the timeout."""

    def __init__(self, why: str, sent: float, connection: int) -> None:
        super().__init__(why)
        self.sent = sent
        self.connection = connection


class _Wire(asyncio.Protocol):
    """One TCP connection, which carries one request at a time."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.is_open = False
        self._answer: asyncio.Future[Answer] | None = None
        self._gone = asyncio.Event()

    def exchange(self, message: bytes, timeout: float) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._has_body = not message.startswith(b"HEAD ")
        self._parser = httptools.HttpResponseParser(self)
        self._late = loop.call_later(timeout, self._fail, f"no answer within {timeout:g} s")
        self._sent = time.monotonic()
        self._transport.write(message)
        return self._answer

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()

    async def close(self) -> None:
        self.abort()
        await self._gone.wait()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is one, and no child of the class
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            if self._answer is not None:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"{type(error).__name__}: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._gone.set()
        self._fail(str(exc or "the server closed the connection"))

    # what httptools calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self._has_body:
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # the answer proper is yet to come
            self._headers.clear()
        elif self._answer is not None:
            self._late.cancel()
            answer, self._answer = self._answer, None
            if not self._parser.should_keep_alive():
                self.is_open = False
                self._transport.close()
            times = (self._sent, self._sent, time.monotonic())
            if not answer.done():  # who asked may have gone
                answer.set_result(Answer(status, self._headers, b"".join(self._body), self.number, *times))

    def _fail(self, why: str) -> None:
        if self._answer is None:
            return
        self._late.cancel()
        answer, self._answer = self._answer, None
        self.abort()
        if not answer.done():
            answer.set_exception(ConnectionLost(why, self._sent, self.number))


class Connection:
    """One keep-alive connection to the server at `url`, made again where the last one has ended.

    `headers` go with every request. It carries one request at a time; nothing is ever sent twice.
    """

    def __init__(self, url: str, headers: Headers = (), timeout: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._timeout = timeout
        self._head = _lines([("Host", parts.netloc), *headers])
        self._wire: _Wire | None = None

    async def __aenter__(self) -> "Connection":
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wire is not None:
            await self._wire.close()

    async def request(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Answer:
        """The whole answer. Raises ConnectionLost."""
        return await self.exchange(self.message(method, path, body, headers))

    def message(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> bytes:
        """A request as its bytes, for those who send the same one many times."""
        length = f"Content-Length: {len(body)}\r\n" if body or method in {"POST", "PUT", "PATCH"} else ""
        return f"{method} {path} HTTP/1.1\r\n{self._head}{_lines(headers)}{length}\r\n".encode("latin-1") + body

    async def exchange(self, message: bytes) -> Answer:
        """Sends these bytes and reads one answer. Raises ConnectionLost."""
        wire = await self._open()
        try:
            return await wire.exchange(message, self._timeout)
        except asyncio.CancelledError:
            wire.abort()  # the answer that may yet come belongs to nobody
            raise

    async def _open(self) -> _Wire:
        """The wire that is there, or a new one. Raises ConnectionLost where nobody listens."""
        if self._wire is not None and self._wire.is_open:
            return self._wire
        began = time.monotonic()
        wire = _Wire()
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().create_connection(lambda: wire, self._host, self._port)
        except OSError as error:  # TimeoutError is one
            raise ConnectionLost(f"{type(error).__name__}: {error}", began, wire.number) from error
        self._wire = wire
        return wire


@asynccontextmanager
async def connected(url: str, count: int, headers: Headers = ()) -> AsyncIterator[list[Connection]]:
    """So many open connections to one server."""
    kept = list(headers)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Connection(url, kept)) for _ in range(count)]


async def steady(
    connections: Sequence[Connection],
    rate: float,
    until: float | asyncio.Event,
    request: Callable[[Connection], Awaitable[Answer]],
) -> list[Answer | Lost]:
    """`rate` requests a second for so many seconds, or until the event is set; how each ended, in order.

    The load is open: a request is due whether or not those before it were answered, and waits for a free connection.
    """
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)
    asked: list[asyncio.Task[Answer | Lost]] = []
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for due in (began + number / rate for number in itertools.count()):
            if until.is_set() if isinstance(until, asyncio.Event) else due >= began + until:
                break
            await asyncio.sleep(due - time.monotonic())
            asked.append(group.create_task(_asked(idle, due, request)))
    return [task.result() for task in asked]


async def _asked(
    idle: asyncio.Queue[Connection], due: float, request: Callable[[Connection], Awaitable[Answer]]
) -> Answer | Lost:
    """One request through the connection that has been free for longest."""
    connection = await idle.get()
    try:
        return replace(await request(connection), due=due)
    except ConnectionLost as lost:
        return Lost(lost.connection, due, lost.sent, time.monotonic(), str(lost))
    finally:
        idle.put_nowait(connection)


def _lines(headers: Headers) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)
