"""POST rows as JSON lists or as an Arrow stream, get scores; no authentication, no validation, no route.

`POST /reload` reads the graph again, as a user would make a new version live in a server of this kind.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.peers import graph

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

score = graph.load()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = await _read(receive)
    if scope["path"] == "/reload":
        _reload()
        answer = b"{}"
    else:
        answer = orjson.dumps({"scores": score(_rows(scope, body))}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _rows(scope: dict[str, Any], body: bytes) -> Any:
    if (b"content-type", b"application/vnd.apache.arrow.stream") in scope["headers"]:
        table = pa.ipc.open_stream(body).read_all()
        return np.column_stack([column.to_numpy() for column in table.columns])
    return orjson.loads(body)["instances"]


def _reload() -> None:
    global score  # noqa: PLW0603 - that is what an in-process flip is
    score = graph.load()
