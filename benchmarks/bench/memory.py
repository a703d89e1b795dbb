"""The same answers from memory, by what a user would write for it: a FastAPI route, and an application without one.

    STATUS=status.json SLOTS=slots.json uvicorn benchmarks.bench.memory:routed    (or :bare)

Neither asks who calls, compares an ETag, or keeps what it answers fresh.
"""

import json
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

BODIES = {"/training/status": Path(os.environ["STATUS"]), "/model/slots": Path(os.environ["SLOTS"])}
HELD: dict[str, dict[str, Any]] = {path: json.loads(file.read_bytes()) for path, file in BODIES.items()}
SENT = {path: file.read_bytes() for path, file in BODIES.items()}

routed = FastAPI()


@routed.get("/training/status")
async def status(model: str) -> dict[str, Any]:  # noqa: ARG001 - there is only one, as there is in Refit here
    return HELD["/training/status"]


@routed.get("/model/slots")
async def slots(model: str) -> dict[str, Any]:  # noqa: ARG001 - ditto
    return HELD["/model/slots"]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - a GET has no body to receive
    """Plain ASGI: it looks at the path, and sends the bytes that it has."""
    if scope["type"] != "http":
        return
    body = SENT[scope["path"]]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
