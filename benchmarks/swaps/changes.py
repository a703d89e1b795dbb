"""Reloads and rollbacks as an operator asks for them, and connections that reach every replica."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from app.cli.client import Json
from benchmarks.client import Connection
from benchmarks.service import Service
from benchmarks.swaps.versions import MODEL

REPLICAS = 3
CONNECTIONS_EACH = 3
# The kernel chooses who answers a new connection; so often it is asked for one to a replica that lacks some.
MOST_CONNECTIONS = 500


@dataclass(frozen=True)
class Change:
    """One answer to a reload or a rollback. `sent` and `done` are the caller's monotonic times."""

    status: int
    answer: Json
    sent: float
    done: float

    @property
    def is_whole(self) -> bool:
        """200, with a receipt of every replica."""
        return self.status == 200 and not self.answer["missing"] and len(self.answer["replicas"]) == REPLICAS

    @property
    def seconds(self) -> float:
        return self.done - self.sent

    @property
    def receipts_ms(self) -> float:
        """From the commit to the last receipt, by the database's clock."""
        return max(float(receipt["took_ms"]) for receipt in self.answer["replicas"])


@dataclass(frozen=True)
class Fleet:
    """`load` are connections for predictions, as many to each replica; `operators` one to each, for changes."""

    load: list[Connection]
    operators: list[Connection]
    replica_of: dict[int, str]

    @property
    def replicas(self) -> list[str]:
        return sorted(set(self.replica_of.values()))


@asynccontextmanager
async def connected_to_all(service: Service) -> AsyncIterator[Fleet]:
    """Raises RuntimeError where some replica is never reached."""
    headers = [("Authorization", f"Bearer {service.key}"), ("Content-Type", "application/json")]
    wanted = CONNECTIONS_EACH + 1
    found: dict[str, list[Connection]] = {}
    replica_of: dict[int, str] = {}
    async with AsyncExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            connection = await stack.enter_async_context(Connection(service.url, headers))
            health = await connection.request("GET", "/health")
            replica = orjson.loads(health.body)["replica"]
            found.setdefault(replica, []).append(connection)
            replica_of[health.connection] = replica
            if len(found) == REPLICAS and min(map(len, found.values())) >= wanted:
                kept = [connections[:wanted] for connections in found.values()]
                # One of each in turn, so that the load goes round the replicas.
                load = [connection for turn in zip(*(rest for _, *rest in kept), strict=True) for connection in turn]
                yield Fleet(load, [first for first, *_ in kept], replica_of)
                return
    reached = Counter(replica_of.values())
    raise RuntimeError(f"{MOST_CONNECTIONS} connections reached {dict(reached)}, not {REPLICAS} replicas")


async def reload(operator: Connection, headers: tuple[tuple[str, str], ...] = ()) -> Change:
    return await _change(operator, "/model/reload", {}, headers)


async def rollback(operator: Connection, headers: tuple[tuple[str, str], ...] = ()) -> Change:
    """Without a hold, so that the next reload is not refused."""
    return await _change(operator, "/model/rollback", {"reason": "of the measurement", "hold": False}, headers)


async def _change(
    operator: Connection, path: str, body: dict[str, Any], headers: tuple[tuple[str, str], ...]
) -> Change:
    told = await operator.request("POST", path, orjson.dumps({"model": MODEL, **body}), headers)
    return Change(told.status, orjson.loads(told.body), told.sent, told.done)
