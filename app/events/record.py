"""Writes one event in the caller's transaction: what happened and the record of it are true together or not at all.

With it goes its row in the outbox. A reader that went by ids instead would pass over an event whose transaction had
taken its id early and committed late.
"""

from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Base
from app.events.tables import Event, Outbox

# The actor of what Refit does by itself.
REFIT = "refit"

# What something can happen to: the first half of every kind.
THINGS = (
    frozenset({"model", "data", "key", "retention"})
    | {"trigger", "schedule", "job", "stage"}
    | {"slots", "canary", "shadow", "watch"}
    | {"signoff", "feedback", "monitor", "incident"}
    | {"notification", "notification_rule", "notification_target"}
)


def of_a_thing(kind: str) -> str:
    """`kind` itself. Raises ValueError naming every thing where it is of none; `*` is of all."""
    thing = kind.partition(".")[0]
    if thing not in THINGS | {"*"}:
        raise ValueError(f"nothing ever happens to {thing!r}; there is {', '.join(sorted(THINGS))}")
    return kind


COLUMNS = ("kind", "actor", "model", "job_id", "version", "before", "after", "reason", "evidence")
EVENTS, OUTBOX = Base.metadata.tables[Event.__tablename__], Base.metadata.tables[Outbox.__tablename__]
TOLD = insert(EVENTS).values({name: bindparam(name) for name in COLUMNS}).returning(EVENTS.c.id).cte("told")
# One round trip, and built once: this stands in the way of every swap.
RECORD = insert(OUTBOX).from_select(["event_id"], select(TOLD.c.id))


async def record(
    session: AsyncSession,
    *,
    kind: str,
    actor: str,
    model: str | None = None,
    job_id: int | None = None,
    version: int | None = None,
    before: str | None = None,
    after: str | None = None,
    reason: str | None = None,
    evidence: dict[str, Any] | None = None,
) -> None:
    """`kind` is `<thing>.<what happened>`, such as `job.accepted`; `before` → `after` are the states of that thing.

    Raises ValueError where the thing is none of THINGS: who asks to be told of a kind is held to the same list.
    """
    if kind.partition(".")[0] not in THINGS:
        raise ValueError(f"{kind} is of no known thing")
    row = {
        "kind": kind,
        "actor": actor,
        "model": model,
        "job_id": job_id,
        "version": version,
        "before": before,
        "after": after,
        "reason": reason,
        "evidence": evidence,
    }
    await session.execute(RECORD, row)
