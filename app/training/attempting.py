"""Triggers that nobody asks for by hand: a refusal is an answer, not an error, and it stands in the record."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal
from app.errors import RefitError
from app.events.record import record
from app.events.refusals import record_refusal
from app.events.tables import Event
from app.settings import Settings
from app.training import service
from app.training.schemas import TriggerRequest
from app.training.service import Triggered


async def attempt(
    session: AsyncSession,
    settings: Settings,
    request: TriggerRequest,
    principal: Principal,
    *,
    trigger: str,
    because: Mapping[str, Any] | None = None,
) -> Triggered | RefitError:
    """`service.trigger` in a savepoint: a refusal undoes nothing of what the caller has written before."""
    try:
        async with session.begin_nested():
            return await service.trigger(session, settings, request, principal, trigger=trigger, because=because)
    except RefitError as refusal:
        return refusal


async def trigger_automatically(
    session: AsyncSession,
    settings: Settings,
    request: TriggerRequest,
    principal: Principal,
    *,
    trigger: str,
    because: Mapping[str, Any] | None = None,
) -> Triggered | RefitError:
    """The job, new or open already, or why there is none; each stands in the record.

    The same refusal of the same model stands there once an hour, and that a trigger joined an open job once for that
    job. `request.model` must be named.
    """
    found = await attempt(session, settings, request, principal, trigger=trigger, because=because)
    actor, model = str(principal), str(request.model)
    if isinstance(found, RefitError):
        await record_refusal(session, found, kind="trigger.refused", actor=actor, model=model)
    elif found.outcome == "coalesced" and not await _is_told(session, found.job.id, actor, trigger):
        told = {"trigger": trigger, "made_by": found.job.actor}
        of: dict[str, Any] = {"model": model, "job_id": found.job.id}
        await record(session, kind="trigger.coalesced", actor=actor, **of, reason=request.reason, evidence=told)
    return found


async def _is_told(session: AsyncSession, job: int, actor: str, trigger: str) -> bool:
    """Who looks every minute while a job runs for hours joins it every minute, and once is enough to know."""
    same = (Event.kind == "trigger.coalesced", Event.job_id == job, Event.actor == actor)
    of_trigger = Event.evidence["trigger"].as_string() == trigger
    return bool(await session.scalar(select(exists().where(*same, of_trigger))))
