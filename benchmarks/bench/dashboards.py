"""Dashboards that look once a second whether anything has changed: one process, a keep-alive connection each.

    python -m benchmarks.bench.dashboards URL MODEL COUNT < KEY

The first line of standard input is the key. `ready` on standard output says that each has asked once; when
standard input ends, as it does with whoever started this, a line of JSON says how often which status was answered.
"""

import asyncio
import itertools
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import uvloop

from benchmarks.client import Connection, ConnectionLost

EVERY_SECONDS = 1.0
LOST = "lost"

# How often each status was answered, and how often (LOST) none was.
Seen = Counter[str]


def main(url: str, model: str, count: str) -> None:
    _allow_connections()
    key = sys.stdin.readline().strip()
    uvloop.run(_look_until_told(url, key, _paths(model), int(count)))


def _paths(model: str) -> Sequence[str]:
    return f"/training/status?model={model}", f"/model/slots?model={model}"


def _allow_connections() -> None:
    """As many descriptors as this user may have; the usual 1,024 are too few for a thousand connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _look_until_told(url: str, key: str, paths: Sequence[str], count: int) -> None:
    seen: Seen = Counter()
    headers = [("Authorization", f"Bearer {key}")]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as dashboards:
        connections = [await stack.enter_async_context(Connection(url, headers)) for _ in range(count)]
        etags = {path: (await connections[0].request("GET", path)).headers["etag"] for path in paths}
        began = time.monotonic()
        looking = []
        for number, (connection, path) in enumerate(zip(connections, itertools.cycle(paths), strict=False)):
            first = began + EVERY_SECONDS * number / count  # spread evenly over the second
            looking.append(dashboards.create_task(_look(connection, path, etags[path], first, seen)))
        await asyncio.sleep(EVERY_SECONDS)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for dashboard in looking:
            dashboard.cancel()
    print(json.dumps(seen), flush=True)


async def _look(connection: Connection, path: str, etag: str, due: float, seen: Seen) -> None:
    """Asks with the ETag of the answer before, for ever; one that is answered late does not ask twice to catch up."""
    while True:
        await asyncio.sleep(due - time.monotonic())
        try:
            answer = await connection.request("GET", path, headers=[("If-None-Match", etag)])
        except ConnectionLost:
            seen[LOST] += 1
        else:
            seen[str(answer.status)] += 1
            etag = answer.headers.get("etag", etag)
        due = max(due + EVERY_SECONDS, time.monotonic())


if __name__ == "__main__":
    main(*sys.argv[1:])
