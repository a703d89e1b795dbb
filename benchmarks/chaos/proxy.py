"""A TCP proxy in front of one server, which delays, drops, resets or swallows what passes."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
# With this linger a close sends RST and forgets what was not sent yet.
AT_ONCE = struct.pack("ii", 1, 0)


class Weather(StrEnum):
    """What becomes of bytes and connections."""

    CLEAR = "clear"
    DELAY = "delay"  # every chunk comes `seconds` late
    DROP = "drop"  # every connection is closed, and so is each new one
    RESET = "reset"  # the same, by RST
    SWALLOW = "swallow"  # half-open: connections stand, new ones are accepted, and no byte arrives


@dataclass(eq=False)
class Link:
    """One connection through the proxy. `torn`: bytes of it were swallowed, so that it can never be right again."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    torn: bool = False

    def cut(self, *, at_once: bool = False) -> None:
        for end in (self.near, self.far):
            if end is None:
                continue
            if at_once:
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            end.transport.abort() if at_once else end.close()


class Proxy:
    """Listens on `port` of loopback while the block lasts, and connects to `target`, a port of loopback as well."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.weather = Weather.CLEAR
        self._target = target
        self._seconds = 0.0
        self._serving: dict[Link, asyncio.Task[None]] = {}
        self._clear = asyncio.Event()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._clear.set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._clear.set()
        for link in list(self._serving):
            link.cut(at_once=True)
        await asyncio.gather(*self._serving.values(), return_exceptions=True)

    def turn(self, weather: Weather, seconds: float = 0.0) -> None:
        """Changes the weather, also for the connections that stand. `seconds` are for DELAY."""
        self.weather, self._seconds = weather, seconds
        if weather in (Weather.DROP, Weather.RESET):
            for link in list(self._serving):
                link.cut(at_once=weather is Weather.RESET)
        if weather is Weather.CLEAR:
            self._clear.set()
            for link in list(self._serving):
                if link.torn:
                    link.cut(at_once=True)
        else:
            self._clear.clear()

    def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        link = Link(near)
        self._serving[link] = asyncio.create_task(self._serve(link, reader))

    async def _serve(self, link: Link, reader: asyncio.StreamReader) -> None:
        try:
            await self._connect(link, reader)
        except (OSError, asyncio.IncompleteReadError):
            link.cut(at_once=self.weather is Weather.RESET)
        finally:
            link.cut()
            del self._serving[link]

    async def _connect(self, link: Link, reader: asyncio.StreamReader) -> None:
        if self.weather in (Weather.DROP, Weather.RESET):
            return link.cut(at_once=self.weather is Weather.RESET)
        if self.weather is Weather.SWALLOW:
            link.torn = True
            await self._clear.wait()
            return None
        answers, link.far = await asyncio.open_connection(LOOPBACK, self._target)
        pumps = [
            asyncio.create_task(self._pump(link, reader, link.far)),
            asyncio.create_task(self._pump(link, answers, link.near)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        return None

    async def _pump(self, link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One direction, until its end. An end that is swallowed is not passed on either."""
        with suppress(OSError):
            while data := await source.read(CHUNK):
                if self.weather is Weather.DELAY:
                    await asyncio.sleep(self._seconds)
                if self.weather is Weather.SWALLOW:
                    link.torn = True
                    continue
                sink.write(data)
                await sink.drain()
        if self.weather is Weather.SWALLOW:
            link.torn = True
            await self._clear.wait()
