"""The proxy that `make chaos` puts before Postgres and the broker."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.chaos.proxy import LOOPBACK, Proxy, Weather

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that says everything once more."""
    server = await asyncio.start_server(_echo, LOOPBACK, 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echo_of(streams: Streams, said: bytes = b"hello") -> bytes:
    """Nothing where the connection has ended, or where nothing comes."""
    reader, writer = streams
    writer.write(said)
    try:
        async with asyncio.timeout(0.3):
            return await reader.read(1024)
    except TimeoutError:
        return b""


async def test_in_clear_weather_bytes_pass(proxy: Proxy) -> None:
    async with connected(proxy) as streams:
        assert await echo_of(streams) == b"hello"


async def test_delayed_bytes_come_late(proxy: Proxy) -> None:
    async with connected(proxy) as streams:
        proxy.turn(Weather.DELAY, 0.05)
        began = time.monotonic()
        assert await echo_of(streams) == b"hello"
        assert time.monotonic() - began >= 0.1  # there and back


async def test_swallowed_bytes_never_arrive_and_nobody_is_told(proxy: Proxy) -> None:
    async with connected(proxy) as streams:
        proxy.turn(Weather.SWALLOW)
        assert await echo_of(streams) == b""
        assert not streams[0].at_eof()
        async with connected(proxy) as newcomer:
            assert await echo_of(newcomer) == b""
            assert not newcomer[0].at_eof()


async def test_a_connection_that_lost_bytes_is_cut_when_the_weather_clears(proxy: Proxy) -> None:
    async with connected(proxy) as torn, connected(proxy) as whole:
        assert await echo_of(whole) == b"hello"
        proxy.turn(Weather.SWALLOW)
        assert await echo_of(torn) == b""
        proxy.turn(Weather.CLEAR)
        with pytest.raises(ConnectionResetError):
            await torn[0].read()
        assert await echo_of(whole) == b"hello"


async def test_dropping_ends_the_connections_that_stand_and_each_new_one(proxy: Proxy) -> None:
    async with connected(proxy) as streams:
        assert await echo_of(streams) == b"hello"
        proxy.turn(Weather.DROP)
        assert await streams[0].read() == b""
        async with connected(proxy) as newcomer:
            assert await newcomer[0].read() == b""


async def test_a_reset_is_no_orderly_end(proxy: Proxy) -> None:
    async with connected(proxy) as streams:
        assert await echo_of(streams) == b"hello"
        proxy.turn(Weather.RESET)
        with pytest.raises(ConnectionResetError):
            await streams[0].read()


async def test_the_weather_can_clear_again(proxy: Proxy) -> None:
    for weather in Weather:
        proxy.turn(weather)
    proxy.turn(Weather.CLEAR)
    async with connected(proxy) as streams:
        assert await echo_of(streams) == b"hello"


async def test_a_server_that_is_away_is_away_behind_the_proxy() -> None:
    server = await asyncio.start_server(_echo, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    async with Proxy(port) as proxy, connected(proxy) as (reader, _):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
