"""Writes one event in the caller's transaction: what happened and the record of it are true together or not at all."""

from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.tables import Event

# The actor of what Refit does by itself.
REFIT = "refit"


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
    """`kind` is `<thing>.<what happened>`, such as `job.accepted`; `before` → `after` are the states of that thing."""
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
    await session.execute(insert(Event).values(row))
