"""What was refused, told once an hour: whoever asks every second must not fill the record with the same answer."""

from typing import Any

from sqlalchemy import exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.errors import RefitError
from app.events.record import record
from app.events.tables import Event

AGAIN_AFTER_SECONDS = 3_600.0


async def record_refusal(
    session: AsyncSession,
    refusal: RefitError,
    *,
    kind: str,
    actor: str,
    model: str,
    version: int | None = None,
    once: bool = False,
) -> None:
    """An event `kind` with every code and figure of the refusal, unless this hour (`once`: the whole record) has the
    same of that actor.

    Whoever finds another one writing it leaves it to that one.
    """
    reasons: list[dict[str, Any]] = refusal.details.get("reasons", [])
    codes = ", ".join(dict.fromkeys(reason["code"] for reason in reasons)) or refusal.code
    what = f"{kind}:{model}:{version}:{actor}:{codes}"
    if not await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(what, 0)))):
        return
    same = (Event.kind == kind, Event.model == model, Event.actor == actor, Event.after == codes)
    of_version = Event.version.is_not_distinct_from(version)
    recently = true() if once else Event.at > clock() - seconds(AGAIN_AFTER_SECONDS)
    if await session.scalar(select(exists().where(*same, of_version, recently))):
        return
    await record(
        session,
        kind=kind,
        actor=actor,
        model=model,
        version=version,
        after=codes,
        reason=refusal.message,
        evidence={"reasons": reasons} if reasons else None,
    )
