"""The HTTP server: uvicorn, with responses that leave in one system call, and a shutdown that cuts nobody off."""

import asyncio
import ctypes
import os
import resource
import signal
import socket
import tempfile
import time
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import multiprocess

from app.metrics import SHARED
from app.settings import Settings

# What glibc's mallopt calls them: how much freed memory at the top of the heap goes back to the kernel, and from which
# size on a block is the kernel's own.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGE_BYTES = 2**25, 2**22
# From the last connection that was taken to the end of those that nobody uses.
LAST_SECONDS = 0.5
TICK = 0.02


class Corked:
    """A transport that keeps what is written until the event loop has its next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._kept:
            self._transport.write(b"".join(self._kept))
            self._kept.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWrite(HttpToolsProtocol):
    """It writes the head and the body of a response apart, and the transport hands each to the kernel at once.

    For a small prediction the second system call is a tenth of everything that it costs (`make bench`).
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own says the same
        super().connection_made(cast("asyncio.Transport", Corked(transport, self.loop)))


class Server(uvicorn.Server):
    """uvicorn, which at SIGTERM leaves before it stops. SIGINT (Ctrl-C in a terminal) waits for nothing.

    A server that closes its connections at once cuts off the request that a client has just written into one of them.
    So for REFIT_DRAIN_SECONDS /health/ready answers 503 and every response ends its connection; then whoever shares the
    port takes the new connections, and those that were taken last get their answer.
    """

    patient = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.patient = sig == signal.SIGTERM
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.config.loaded_app.state
        state.leaving = True
        await self._wait(state.settings.drain_seconds)
        for server in self.servers:
            server.close()
        await self._wait(LAST_SECONDS)
        # What writes for longer is told so; uvicorn waits until it has, and would cut off what knows nothing of it.
        state.serving.attendance.end_in(state.settings.drain_answers_seconds if self.patient else 0.0)
        await super().shutdown(sockets)

    async def _wait(self, seconds: float) -> None:
        """So long, or until nobody is connected, or until somebody loses patience."""
        deadline = time.monotonic() + seconds
        while self.patient and self.server_state.connections and time.monotonic() < deadline:  # noqa: ASYNC110 - a set
            await asyncio.sleep(TICK)


class ReplicaProcess(multiprocess.Process):
    """A process under uvicorn's supervisor, which knows no way to be told of another server."""

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(self.config)
        return cast("Server", self._server)


def keep_freed_memory() -> None:
    """Bodies, rows and answers are freed together, and glibc would give their pages back after each request.

    To fetch them again for the next one is up to a tenth of a prediction (`make bench`). What a large batch needed goes
    back at once, and of the rest no more than KEPT_BYTES is kept. Does nothing where the C library is another.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MMAP_THRESHOLD, LARGE_BYTES)
        library.mallopt(TRIM_THRESHOLD, KEPT_BYTES)


def run(application: str, config: Settings) -> None:
    """Serves until it is told to stop: one process, or `config.replicas` of them under uvicorn's supervisor.

    `application` names the function that makes the application of a process.
    """
    # A connection is a descriptor, and a thousand dashboards keep theirs open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options = uvicorn.Config(
        application,
        factory=True,
        host=config.host,
        port=config.port,
        workers=config.replicas,
        loop="uvloop",
        http=OneWrite,
        # Nothing of ours speaks WebSocket, and a package that does may come with another.
        ws="none",
        # Longer than clients keep an idle connection: it is they who close it, and no request meets a closed one.
        timeout_keep_alive=75,
        # Nothing of ours reads where a caller is from.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    handed_over = config.listen_fd is not None
    listening = socket.socket(fileno=config.listen_fd) if handed_over else options.bind_socket()
    if config.replicas == 1 or handed_over:
        Server(options).run(sockets=[listening])
    else:
        multiprocess.Process = ReplicaProcess  # type: ignore[misc]  # the supervisor takes it from its own module
        with tempfile.TemporaryDirectory(prefix="refit-metrics-") as counted:
            os.environ[SHARED] = counted
            multiprocess.Multiprocess(options, sockets=[listening]).run()
