"""What is asked thousands of times a second is answered before FastAPI's machinery for each request begins.

A lane reads a request and gives its answer, or declines; then FastAPI answers, as if there were no lane. So every
lane's path is a route as well, with its documentation, its roles and its errors. Errors, counting and the farewell of a
leaving replica are the same on both ways.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app import http, metrics
from app.http import Headers


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes = b""


# None: it has neither read nor sent anything.
Lane = Callable[[Scope, Receive], Awaitable[Answer | None]]


class Express(FastAPI):
    """FastAPI with `lanes` before it, by method and path. While `state.leaving`, every answer ends its connection."""

    def __init__(self, lanes: Mapping[tuple[str, str], Lane], **options: Any) -> None:
        super().__init__(**options)
        self.lanes = lanes
        self.state.leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane = self.lanes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if self.state.leaving:
            send = partial(_send_and_close, send)
        if lane is None or not await self._is_answered(lane, scope, receive, send):
            await super().__call__(scope, receive, send)

    async def _is_answered(self, lane: Lane, scope: Scope, receive: Receive, send: Send) -> bool:
        began = time.perf_counter()
        scope["app"] = self
        try:
            answer = await lane(scope, receive)
        except ClientDisconnect:
            return True
        except Exception as error:  # noqa: BLE001 - as for any route: the trace is for the log, a problem for the caller
            answer = _told(http.response_to(Request(scope), error))
        if answer is None:
            return False
        await _send(send, answer)
        metrics.count(scope["method"], scope["path"], answer.status, time.perf_counter() - began)
        return True


async def _send(send: Send, answer: Answer) -> None:
    headers = answer.headers
    if answer.body:
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_and_close(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
    await send(message)


def _told(response: Response) -> Answer:
    headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]
    return Answer(response.status_code, headers, bytes(response.body))
