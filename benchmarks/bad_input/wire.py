"""A connection that sends bytes as they are: no client that knows HTTP could be so impolite."""

import select
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from types import TracebackType

from benchmarks.bad_input.case import CLOSED

# Past this an answer does not come: every route answers in less than a second, and a refused key in a tenth.
PATIENCE_SECONDS = 20.0
PIECE = 65_536
PROBE = b"GET /health/live HTTP/1.1\r\nHost: refit\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """`status` is CLOSED where the connection was closed without an answer; `fault` says what is wrong with it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    closes: bool = True
    fault: str | None = None

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known.lower() == name), "")


class Wire:
    """One connection at a time to the service; opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def exchange(self, method: str, sent: bytes, *, hangs_up: bool = False) -> Answer:
        """What came back. A connection that a body leaves open is asked once more, and must answer."""
        answer = self._ask(method, sent, hangs_up)
        if answer.closes or answer.fault:
            self.close()
        # Without a body nothing can be left behind in the connection, and the next request will tell.
        if self._socket is None or sent.endswith(b"\r\n\r\n"):
            return answer
        probe = self._ask("GET", PROBE, hangs_up=False)
        if probe.status == 200:
            return answer
        self.close()
        return Answer(answer.status, answer.headers, answer.body, fault=f"the connection was left unusable ({probe})")

    def _ask(self, method: str, sent: bytes, hangs_up: bool) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, PATIENCE_SECONDS)
        try:
            is_whole = self._send(self._socket, sent)
            if hangs_up:
                self._socket.shutdown(socket.SHUT_WR)
            answer = _read(self._socket, method)
            # Whoever stops in the middle of a body has to close: what comes next would be the rest of it.
            return answer if is_whole else replace(answer, closes=True)
        except TimeoutError:
            return Answer(CLOSED, fault=f"no answer in {PATIENCE_SECONDS:g} s")
        except (OSError, HTTPException) as error:
            return Answer(CLOSED, fault=f"{type(error).__name__}: {error}")

    def _send(self, to: socket.socket, sent: bytes) -> bool:
        """Whether all of it was sent. Stops where an answer comes early: what is refused need not be sent whole."""
        left = memoryview(sent)
        with suppress(BrokenPipeError, ConnectionResetError):
            while left:
                early, free, _ = select.select([to], [to], [], PATIENCE_SECONDS)
                if early or not free:
                    return False
                left = left[to.send(left[:PIECE]) :]
        return not left


def _read(connection: socket.socket, method: str) -> Answer:
    with HTTPResponse(connection, method=method) as response:
        if not connection.recv(1, socket.MSG_PEEK):
            return Answer(CLOSED)
        response.begin()
        body = response.read()
        return Answer(response.status, tuple(response.getheaders()), body, response.will_close)
