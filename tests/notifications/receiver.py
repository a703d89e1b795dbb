"""A webhook receiver that behaves as badly as is wanted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson

Behaviour = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, object]:
        told: dict[str, object] = orjson.loads(self.body)
        return told

    @property
    def data(self) -> dict[str, object]:
        data = self.json["data"]
        assert isinstance(data, dict)
        return data


@dataclass
class Receiver:
    port: int = 0
    received: list[Received] = field(default_factory=list)
    now: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/path-is-secret"


def answers(*statuses: int, **headers: str) -> Behaviour:
    """The n-th request gets the n-th status, the last one for ever."""

    async def answer(n: int, writer: asyncio.StreamWriter) -> None:
        status = statuses[min(n, len(statuses) - 1)]
        lines = [
            f"HTTP/1.1 {status} Told",
            "content-length: 0",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        writer.write("\r\n".join((*lines, "", "")).encode())

    return answer


async def hangs(_: int, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def drips(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drips_headers(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-drip: 1\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def floods(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"." * 65_536)
        await writer.drain()


@asynccontextmanager
async def receiving(behave: Behaviour | None = None) -> AsyncIterator[Receiver]:
    receiver, behave = Receiver(), behave or answers(200)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:]
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            receiver.received.append(Received(headers, body))
            receiver.now += 1
            receiver.most_at_once = max(receiver.most_at_once, receiver.now)
            try:
                await behave(len(receiver.received) - 1, writer)
                await writer.drain()
            finally:
                receiver.now -= 1
                writer.close()

    async def serve_until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        task.add_done_callback(running.discard)
        with suppress(asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve_until_the_end, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
