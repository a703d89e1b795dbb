"""Triggers that nobody asks for by hand: a refusal is an answer, not an error, and it stands in the record."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal
from app.errors import RefitError
from app.events.record import record
from app.events.refusals import record_refusal
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

    The same refusal of the same model stands there once an hour. `request.model` must be named.
    """
    found = await attempt(session, settings, request, principal, trigger=trigger, because=because)
    actor, model = str(principal), str(request.model)
    if isinstance(found, RefitError):
        await record_refusal(session, found, kind="trigger.refused", actor=actor, model=model)
    elif found.outcome == "coalesced":
        told = {"trigger": trigger, "made_by": found.job.actor}
        of: dict[str, Any] = {"model": model, "job_id": found.job.id}
        await record(session, kind="trigger.coalesced", actor=actor, **of, reason=request.reason, evidence=told)
    return found
