"""The HTTP server: uvicorn, with a response that leaves in one system call where uvicorn makes two.

It writes the head and the body of a response apart, and the transport hands each to the kernel at once. For a small
prediction the second call is a tenth of everything that it costs (`make bench`).
"""

import asyncio
import resource
import socket
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.settings import Settings


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
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own says the same
        super().connection_made(cast("asyncio.Transport", Corked(transport, self.loop)))


def run(application: str, config: Settings) -> None:
    """Serves until it is told to stop: one process, or `config.replicas` of them under uvicorn's supervisor.

    `application` names the function that makes the application of a process.
    """
    # A connection is a descriptor, and a thousand dashboards keep theirs open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options: dict[str, Any] = {
        "app": application,
        "factory": True,
        "loop": "uvloop",
        "http": OneWrite,
        # Longer than clients keep an idle connection: it is they who close it, and no request meets a closed one.
        "timeout_keep_alive": 75,
        # Nothing of ours reads where a caller is from.
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_config": None,
    }
    if config.listen_fd is None:
        uvicorn.run(**options, host=config.host, port=config.port, workers=config.replicas)
    else:
        uvicorn.Server(uvicorn.Config(**options)).run(sockets=[socket.socket(fileno=config.listen_fd)])
