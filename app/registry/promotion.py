"""What happens by itself after a verdict of pass: staging, and reload where the definition says so.

Automation never brings a version back: what has stood by or been active once is left to people. A hold stops it.
"""

from collections.abc import Sequence

from sqlalchemy import exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.definitions.service import load
from app.errors import Refused
from app.events.record import REFIT
from app.events.refusals import record_refusal
from app.registry import swap
from app.registry.swap import Change, ReplicasNotReady
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory


async def promote(session: AsyncSession, model: str | None = None) -> None:
    """Stages and reloads whatever may be, of one model or of all. A refusal means not now: the next tick asks again."""
    for version in await _unstaged(session, model):
        await _stage(session, version)
    for slots in await _never_active_standbys(session, model):
        await _reload(session, slots)


async def _unstaged(session: AsyncSession, model: str | None) -> Sequence[ModelVersion]:
    """The newest version of each model, where it passed against what is active and was never staged."""
    any_version = aliased(ModelVersion)
    newest = select(func.max(any_version.number)).where(any_version.model == ModelVersion.model).scalar_subquery()
    staged = exists().where(SlotHistory.model == ModelSlots.model, SlotHistory.standby == ModelVersion.number)
    query = (
        select(ModelVersion)
        .join(ModelSlots, ModelSlots.model == ModelVersion.model)
        .where(
            ModelVersion.number == newest,
            ModelVersion.verdict == "pass",
            ModelVersion.incumbent.is_not_distinct_from(ModelSlots.active),
            ModelSlots.hold_reason.is_(None),
            ~staged,
        )
    )
    return (await session.scalars(query if model is None else query.where(ModelVersion.model == model))).all()


async def _never_active_standbys(session: AsyncSession, model: str | None) -> Sequence[ModelSlots]:
    was_active = exists().where(SlotHistory.model == ModelSlots.model, SlotHistory.active == ModelSlots.standby)
    query = select(ModelSlots).where(
        ModelSlots.standby.is_not(None),
        ModelSlots.hold_reason.is_(None),
        or_(ModelSlots.previous.is_(None), ModelSlots.standby != ModelSlots.previous),
        ~was_active,
    )
    return (await session.scalars(query if model is None else query.where(ModelSlots.model == model))).all()


async def _stage(session: AsyncSession, version: ModelVersion) -> None:
    promotion = (await load(session, version.model)).definition.promotion
    if promotion.stage == "automatic":
        change = Change(version.model, REFIT, "passed the gate")
        try:
            await swap.stage(session, change, version.number)
        except Refused as refusal:
            await _put_off(session, refusal, version.model, version.number)


async def _reload(session: AsyncSession, slots: ModelSlots) -> None:
    definition = (await load(session, slots.model)).definition
    if definition.promotion.reload == "automatic":
        change = Change(slots.model, REFIT, "passed the gate, reload is automatic")
        try:
            await swap.reload(session, change, watch_minutes=definition.watch.minutes)
        except Refused as refusal:
            await _put_off(session, refusal, slots.model, slots.standby)


async def _put_off(session: AsyncSession, refusal: Refused, model: str, version: int | None) -> None:
    """Not now. The next tick asks again; the record says why once an hour. That replicas still load is no decision."""
    if not isinstance(refusal, ReplicasNotReady):
        await record_refusal(session, refusal, kind="slots.put_off", actor=REFIT, model=model, version=version)
