"""The client that the measurements ask with, and the check of what it was told."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import orjson
import pytest

from benchmarks.client import Answer, Connection, ConnectionLost, Lost, connected, steady
from benchmarks.swaps.changes import REPLICAS, Change
from benchmarks.swaps.checks import Violations, check
from benchmarks.swaps.versions import Versions

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@asynccontextmanager
async def served(answers: Handler) -> AsyncIterator[str]:
    """A server whose every connection is left to `answers`, and ends where that returns."""

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await answers(reader, writer)
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as group:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            group.create_task(whole(reader, writer))

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            yield f"http://{host}:{port}"


async def told(reader: asyncio.StreamReader) -> bytes:
    """The body of one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next((line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length")), "0")
    return await reader.readexactly(int(length))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not reader.at_eof():
        try:
            body = await told(reader)
        except asyncio.IncompleteReadError:
            return
        writer.write(b"HTTP/1.1 200 OK\r\nX-Of: Echo\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = await told(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await told(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def test_an_answer_carries_status_headers_body_and_its_times() -> None:
    async with served(echo) as url, Connection(url) as connection:
        before = time.monotonic()
        answer = await connection.request("POST", "/", b"hello")
    assert (answer.status, answer.headers["x-of"], answer.body) == (200, "Echo", b"hello")
    assert before <= answer.sent <= answer.done <= time.monotonic()


async def test_one_connection_carries_many_requests() -> None:
    async with served(echo) as url, Connection(url) as connection:
        answers = [await connection.request("POST", "/", str(number).encode()) for number in range(3)]
    assert [answer.body for answer in answers] == [b"0", b"1", b"2"]
    assert len({answer.connection for answer in answers}) == 1


async def test_a_connection_that_the_server_closed_is_made_again() -> None:
    async with served(echo_once) as url, Connection(url) as connection:
        answers = [await connection.request("POST", "/", b"x") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].connection != answers[1].connection


async def test_half_an_answer_is_a_lost_connection_that_says_when_it_was_sent() -> None:
    async with served(half) as url, Connection(url) as connection:
        before = time.monotonic()
        with pytest.raises(ConnectionLost) as lost:
            await connection.request("GET", "/")
    assert before <= lost.value.sent <= time.monotonic()


async def test_an_answer_that_never_comes_is_a_lost_connection() -> None:
    silence = asyncio.Event()
    async with served(lambda *_: silence.wait()) as url, Connection(url, timeout=0.05) as connection:
        with pytest.raises(ConnectionLost, match="no answer within"):
            await connection.request("GET", "/")
        silence.set()


async def test_a_stall_counts_for_every_request_that_was_due_while_it_lasted() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await echo(reader, writer)

    async with served(stall) as url, connected(url, 1) as connections:
        answers = await steady(connections, 100, 0.1, lambda connection: connection.request("GET", "/"))
    assert len(answers) == 10
    assert all(isinstance(answer, Answer) and answer.seconds > 0.09 for answer in answers)


async def test_a_load_goes_on_after_a_lost_connection_and_tells_of_it() -> None:
    requests = 0

    async def fickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await (half if requests == 1 else echo)(reader, writer)

    async with served(fickle) as url, connected(url, 1) as connections:
        answers = await steady(connections, 100, 0.05, lambda connection: connection.request("GET", "/"))
    assert [type(answer) for answer in answers] == [Lost, Answer, Answer, Answer, Answer]


def told_at(sent: float, generation: int, version: int, score: float) -> Answer:
    body = orjson.dumps({"generation": generation, "version": version, "scores": [score, score]})
    return Answer(200, {}, body, connection=1, due=sent, sent=sent, done=sent + 0.1)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (told_at(4.0, 2, 2, 0.2), Violations()),
        (told_at(2.0, 1, 1, 0.1), Violations()),  # sent while the change was under way
        (Lost(1, 4.0, 4.0, 4.1, "gone"), Violations(failed=1)),
        (replace(told_at(4.0, 2, 2, 0.2), status=503), Violations(failed=1)),
        (told_at(4.0, 2, 2, 0.1), Violations(mixed=1)),
        (told_at(4.0, 2, 1, 0.1), Violations(misnamed=1)),
        (told_at(4.0, 1, 1, 0.1), Violations(older=1)),
    ],
)
def test_the_check_of_the_swaps_finds_what_it_is_there_for(answer: Answer | Lost, found: Violations) -> None:
    versions = Versions(b"", {1: [0.1, 0.1], 2: [0.2, 0.2]}, generation=1, active=1)
    receipts = [{"took_ms": 1.0}] * REPLICAS
    change = Change(200, {"generation": 2, "active": 2, "missing": [], "replicas": receipts}, sent=1.0, done=3.0)
    assert check(versions, [change], [answer]) == found


def test_the_check_of_the_swaps_finds_a_replica_that_goes_back() -> None:
    versions = Versions(b"", {1: [0.1, 0.1], 2: [0.2, 0.2]}, generation=1, active=1)
    change = Change(200, {"generation": 2, "active": 2, "missing": ["one"], "replicas": []}, sent=1.0, done=3.0)
    answers = [told_at(2.0, 2, 2, 0.2), told_at(4.0, 1, 1, 0.1)]
    assert check(versions, [change], answers) == Violations(backwards=1)
