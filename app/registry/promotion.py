"""What happens by itself after a verdict of pass: staging, and reload where the definition says so.

Automation never brings a version back: what has stood by or been active once is left to people, and so is what is byte
for byte a version that was rolled back. A hold stops it; whatever stops it is told once.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.definitions.service import load
from app.errors import Refused
from app.events.record import REFIT
from app.events.refusals import record_refusal
from app.registry import conditions, swap
from app.registry.swap import Change, ReplicasNotReady
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory
from app.trials.tables import Trial

log = logging.getLogger(__name__)


async def promote(session: AsyncSession, model: str | None = None) -> None:
    """Stages and reloads whatever may be, of one model or of all. A refusal means not now: the next tick asks again."""
    for version in await _unstaged(session, model):
        async with _on_its_own(session, version.model):
            await _stage(session, version)
    for slots in await _never_active_standbys(session, model):
        async with _on_its_own(session, slots.model):
            await _reload(session, slots)


@asynccontextmanager
async def _on_its_own(session: AsyncSession, model: str) -> AsyncIterator[None]:
    """What fails with one model leaves the others theirs."""
    try:
        async with session.begin_nested():
            yield
    except Exception as error:  # noqa: BLE001 - whatever one model stumbles over, the next one is promoted
        log.warning("the promotion of %s stumbled (%s: %s)", model, type(error).__name__, error)


async def _unstaged(session: AsyncSession, model: str | None) -> Sequence[ModelVersion]:
    """The newest version of each model, where it passed the gate and was never staged."""
    any_version = aliased(ModelVersion)
    newest = select(func.max(any_version.number)).where(any_version.model == ModelVersion.model).scalar_subquery()
    staged = exists().where(
        SlotHistory.model == ModelVersion.model,
        or_(SlotHistory.standby == ModelVersion.number, SlotHistory.active == ModelVersion.number),
    )
    query = select(ModelVersion).where(ModelVersion.number == newest, ModelVersion.verdict == "pass", ~staged)
    query = query.order_by(ModelVersion.model)
    return (await session.scalars(query if model is None else query.where(ModelVersion.model == model))).all()


async def _never_active_standbys(session: AsyncSession, model: str | None) -> Sequence[ModelSlots]:
    was_active = exists().where(SlotHistory.model == ModelSlots.model, SlotHistory.active == ModelSlots.standby)
    query = (
        select(ModelSlots)
        .where(
            ModelSlots.standby.is_not(None),
            ModelSlots.hold_reason.is_(None),
            or_(ModelSlots.previous.is_(None), ModelSlots.standby != ModelSlots.previous),
            ~was_active,
        )
        .order_by(ModelSlots.model)
    )
    return (await session.scalars(query if model is None else query.where(ModelSlots.model == model))).all()


async def _stage(session: AsyncSession, version: ModelVersion) -> None:
    promotion = (await load(session, version.model)).definition.promotion
    if promotion.stage == "automatic":
        change = Change(version.model, REFIT, "passed the gate")
        try:
            slots = await session.get_one(ModelSlots, version.model, populate_existing=True)
            conditions.check_hold(slots, change.force)
            conditions.check_gate(slots, version, change.force)
            await _check_trial(session, slots)
            if known := await nothing_new(session, slots, version):
                raise known
            # What is refused gives the slots free at once.
            async with session.begin_nested():
                await swap.stage(session, change, version.number)
        except Refused as refusal:
            await _put_off(session, refusal, version.model, version.number)


async def _reload(session: AsyncSession, slots: ModelSlots) -> None:
    definition = (await load(session, slots.model)).definition
    if definition.promotion.reload == "automatic":
        change = Change(slots.model, REFIT, "passed the gate, reload is automatic")
        try:
            await _check_trial(session, slots)
            async with session.begin_nested():
                await swap.reload(session, change, watch_minutes=definition.watch.minutes)
        except Refused as refusal:
            await _put_off(session, refusal, slots.model, slots.standby)


async def _check_trial(session: AsyncSession, slots: ModelSlots) -> None:
    """People have begun a trial of what stands by: it is theirs to end."""
    running = select(Trial).where(Trial.model == slots.model, Trial.state == "running")
    trial = await session.scalar(running)
    if trial is not None and trial.standby == slots.standby:
        raise Refused(
            f"A {trial.kind} of version {trial.standby} runs until {trial.ends_at:%Y-%m-%d %H:%M:%S} UTC.",
            code="trial_running",
            remedy=f"Wait for its end, or end it: refit {trial.kind} stop {slots.model} --reason …",
        )


async def nothing_new(session: AsyncSession, slots: ModelSlots, version: ModelVersion) -> Refused | None:
    """The same rows and the same definition give the same bytes: as good as what is active, or as bad as what was
    rolled back. None where no such version is known."""
    twins = select(ModelVersion.number).where(
        ModelVersion.model == version.model,
        ModelVersion.artifact == version.artifact,
        ModelVersion.number != version.number,
    )
    for twin in (await session.scalars(twins.order_by(ModelVersion.number.desc()))).all():
        undone = await swap.was_rolled_back(session, version.model, twin)
        if twin == slots.active or undone:
            return Refused(
                f"Version {version.number} is byte for byte version {twin}, which "
                + (f"was rolled back: {undone.reason}" if undone else "is active."),
                code="nothing_new",
                remedy=f"Wait for new rows, or stage it by hand: refit versions stage {version.number} "
                f"-m {version.model}.",
            )
    return None


async def _put_off(session: AsyncSession, refusal: Refused, model: str, version: int | None) -> None:
    """Not now. The next tick asks again; the record says why, once. That replicas still load is no decision; that one
    cannot is for people to see."""
    still_load = isinstance(refusal, ReplicasNotReady) and not any(r["error"] for r in refusal.details["missing"])
    if not still_load:
        await record_refusal(
            session, refusal, kind="slots.put_off", actor=REFIT, model=model, version=version, once=True
        )
