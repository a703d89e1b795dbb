"""How a replica leaves: it says so, lets whoever is connected go with their next answer, and only then stops.

A server that closes its connections at SIGTERM cuts off the request that a client has just written into one of them.
So for a moment /health/ready answers 503 and every response says `Connection: close`; then the server's own shutdown
finishes what is still running.
"""

import asyncio
import signal
from types import FrameType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE = (b"connection", b"close")


class Drain:
    """`leaving` is true from SIGTERM on. SIGINT (Ctrl-C in a terminal) waits for nothing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.leaving = False

    def before_sigterm(self) -> None:
        """Puts itself before whatever this process does at SIGTERM; where it just dies of it, it still does."""
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop):
            return
        loop = asyncio.get_running_loop()

        def leave(number: int, frame: FrameType | None) -> None:
            if self.leaving:
                stop(number, frame)
                return
            self.leaving = True
            loop.call_soon_threadsafe(lambda: loop.call_later(self.seconds, stop, number, frame))

        signal.signal(signal.SIGTERM, leave)


class SayGoodbye:
    """ASGI middleware: from then on every answer ends its connection."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app, self.drain = app, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), CLOSE]
            await send(message)

        leaving = scope["type"] == "http" and self.drain.leaving
        await self.app(scope, receive, send_and_close if leaving else send)
