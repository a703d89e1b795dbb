"""The life of a trial: started by an operator, one at a time for a model, ended by people, by limits or by the slots.

Replicas follow the table (app/serving/directions.py) and hold each request against the slots that it found, so a trial
is over for them the moment active or standby changes; `end_due` then writes it down.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, notify, seconds
from app.definitions.service import load
from app.errors import NotFound, Refused
from app.events.record import REFIT, record
from app.registry.swap import ReplicasNotReady, get_version, live_replicas
from app.registry.tables import ModelSlots
from app.signoff import standing
from app.trials.schemas import StartCanary, StartShadow
from app.trials.tables import Trial

CHANNEL = "refit_trials"

END_DUE = text("""
    UPDATE trials SET state = 'ended', ended_at = clock_timestamp(), ended_by = :actor, why = CASE
        WHEN slots.active IS DISTINCT FROM trials.active THEN 'version ' || trials.active || ' is no longer active'
        WHEN slots.standby IS DISTINCT FROM trials.standby THEN 'version ' || trials.standby || ' no longer stands by'
        WHEN trials.kind = 'canary' AND slots.hold_reason IS NOT NULL THEN 'the model is held: ' || slots.hold_reason
        WHEN trials.ends_at <= clock_timestamp() THEN 'its time is over'
        ELSE 'standby has answered its ' || trials.max_requests || ' requests' END
    FROM model_slots AS slots
    WHERE trials.state = 'running' AND slots.model = trials.model AND (
        slots.active IS DISTINCT FROM trials.active OR slots.standby IS DISTINCT FROM trials.standby
        OR (trials.kind = 'canary' AND slots.hold_reason IS NOT NULL)
        OR trials.ends_at <= clock_timestamp() OR trials.requests >= trials.max_requests)
    RETURNING trials.id
""")


async def start(session: AsyncSession, model: str, asked: StartCanary | StartShadow, *, actor: str) -> Trial:
    """A running trial of what stands by.

    Raises Refused: `shadow_of_texts`, `no_active_version`, `standby_empty`, `held`, `signoff_missing` and
    `signoff_rejected` (a canary), `trial_running`; ReplicasNotReady where a live replica has not loaded standby.
    """
    kind = "canary" if isinstance(asked, StartCanary) else "shadow"
    if kind == "shadow" and (await load(session, model)).definition.generates:
        raise Refused(
            f"{model} answers with text: two answers are not compared row by row.",
            code="shadow_of_texts",
            remedy=f"Start a canary: refit canary start {model} --share 0.1 --reason …; or ask standby by `slot`.",
        )
    slots = await _lock(session, model)
    await _check(session, slots, kind)
    trial = Trial(
        model=model,
        kind=kind,
        share=asked.share,
        active=slots.active,
        standby=slots.standby,
        salt=secrets.token_hex(16),
        reason=asked.reason,
        started_by=actor,
        ends_at=clock() + seconds(asked.minutes * 60),
        max_requests=asked.max_requests,
    )
    session.add(trial)
    await session.flush()
    await session.refresh(trial)
    await _tell(session, trial, "started", actor, asked.reason)
    return trial


async def stop(session: AsyncSession, model: str, kind: str, *, actor: str, reason: str) -> Trial:
    """Ends the trial of that kind that runs. Raises NotFound `no_trial` where none does."""
    ended: Trial | None = await session.scalar(
        update(Trial)
        .where(Trial.model == model, Trial.kind == kind, Trial.state == "running")
        .values(state="ended", ended_at=clock(), ended_by=actor, why=reason)
        .returning(Trial)
    )
    if ended is None:
        raise NotFound(f"No {kind} of {model} is running.", code="no_trial")
    await _tell(session, ended, "ended", actor, reason)
    return ended


async def end_due(session: AsyncSession) -> int:
    """A chore: ends what is late, done, or no longer tries what stands in the slots. How many."""
    ids = (await session.scalars(END_DUE, {"actor": REFIT})).all()
    for id in ids:
        trial = await session.get_one(Trial, id, populate_existing=True)
        await _tell(session, trial, "ended", REFIT, trial.why)
    return len(ids)


async def get(session: AsyncSession, model: str, id: int | None) -> Trial:
    """The trial of that id; without one the running trial, else the last one. Raises NotFound `no_trial`."""
    query = select(Trial).where(Trial.model == model).order_by(Trial.id.desc()).limit(1)
    trial = await session.scalar(query if id is None else query.where(Trial.id == id))
    if trial is None and id is not None:
        raise NotFound(f"{model} has had no trial {id}.", code="no_trial", remedy="GET /model/trials lists them.")
    if trial is None:
        raise NotFound(
            f"There has been no trial of {model}.",
            code="no_trial",
            remedy=f"Start one: refit canary start {model} --share 0.1 --reason …",
        )
    return trial


async def list_trials(session: AsyncSession, model: str, *, after: int | None, limit: int) -> Sequence[Trial]:
    """Newest first; one more than `limit`."""
    query = select(Trial).where(Trial.model == model).order_by(Trial.id.desc())
    if after is not None:
        query = query.where(Trial.id < after)
    return (await session.scalars(query.limit(limit + 1))).all()


async def _lock(session: AsyncSession, model: str) -> ModelSlots:
    """Nobody swaps until the trial is written down."""
    query = select(ModelSlots).where(ModelSlots.model == model).with_for_update()
    slots = await session.scalar(query.execution_options(populate_existing=True))
    assert slots is not None, "a model is made with its slots"
    return slots


async def _check(session: AsyncSession, slots: ModelSlots, kind: str) -> None:
    model = slots.model
    if slots.active is None:
        raise Refused(
            f"No version of {model} is active: there is nothing to try another one against.", code="no_active_version"
        )
    if slots.standby is None:
        raise Refused(
            f"Nothing stands by for {model}.",
            code="standby_empty",
            remedy=f"Train one that passes the gate: refit trigger {model} --wait; or: refit versions stage N.",
        )
    if kind == "canary" and slots.hold_reason is not None:
        raise Refused(
            f"{model} is held: {slots.hold_reason}",
            code="held",
            remedy=f"Lift it first: refit unhold {model} --reason …; or try standby as a shadow.",
        )
    if kind == "canary":
        await standing.check(session, await get_version(session, model, slots.standby))
    if await session.scalar(select(Trial.id).where(Trial.model == model, Trial.state == "running")):
        raise Refused(
            f"A trial of {model} is running already.",
            code="trial_running",
            remedy=f"Stop it first: refit canary stop {model} --reason …",
        )
    cold = [r for r in await live_replicas(session, model) if r.warm != slots.standby]
    if cold:
        named = [{"replica": str(r.replica), "host": r.host, "warm": r.warm, "error": r.error} for r in cold]
        raise ReplicasNotReady(
            f"{len(cold)} live replicas of {model} do not hold version {slots.standby} warm.",
            remedy="Ask again in a moment.",
            missing=named,
        )


async def _tell(session: AsyncSession, trial: Trial, what: str, actor: str, reason: str | None) -> None:
    evidence: dict[str, Any] = {
        name: getattr(trial, name)
        for name in ("id", "share", "active", "standby", "requests", "rows", "agreed", "difference", "dropped")
    }
    evidence["ends_at"] = trial.ends_at.isoformat()
    await record(
        session,
        kind=f"{trial.kind}.{what}",
        actor=actor,
        model=trial.model,
        version=trial.standby,
        after=trial.state,
        reason=reason,
        evidence=evidence,
    )
    await notify(session, CHANNEL, trial.model)
