"""The life of a watch. Every change of `watches.state` is in this file.

    watching ─▶ passed          the time is over, and nothing was established against the version
             ─▶ rolled_back     a breach was established, and the version before is active again
             ─▶ held            a breach was established, and people must act: rollbacks are manual, or came too often
             ─▶ inconclusive    the time is over, and too little was answered to say anything
             ─▶ superseded      somebody changed the active version meanwhile

A breach is written first, with its figures and its time; acting on it follows. A guard that dies in between leaves a
row from which the next one goes on.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, and_, case, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db import clock, seconds
from app.events.record import REFIT, record
from app.registry.tables import ModelSlots, SlotHistory
from app.watch.tables import Watch


class WatchState(StrEnum):
    WATCHING = "watching"
    PASSED = "passed"
    ROLLED_BACK = "rolled_back"
    HELD = "held"
    INCONCLUSIVE = "inconclusive"
    SUPERSEDED = "superseded"


TRANSITIONS: Mapping[WatchState, frozenset[WatchState]] = {
    WatchState.WATCHING: frozenset(WatchState) - {WatchState.WATCHING},
    **{state: frozenset() for state in WatchState if state != WatchState.WATCHING},
}


async def begin_due(session: AsyncSession) -> None:
    """A watch for each reload that has none yet. One a generation, whoever ticks."""
    began = (
        select(func.min(SlotHistory.at))
        .where(SlotHistory.model == ModelSlots.model, SlotHistory.generation == ModelSlots.generation)
        .correlate(ModelSlots)
        .scalar_subquery()
    )
    has_one = exists().where(Watch.model == ModelSlots.model, Watch.generation == ModelSlots.generation)
    of = ModelSlots
    reloaded = select(
        of.model, of.generation, of.active, of.previous, began, _counts_from(began), of.watch_until
    ).where(of.watch_until.is_not(None), of.previous.is_not(None), ~has_one)
    columns = ["model", "generation", "version", "previous", "started_at", "counts_from", "until"]
    started = insert(Watch).from_select(columns, reloaded).on_conflict_do_nothing().returning(Watch)
    for watch in (await session.scalars(started)).all():
        await _tell(session, watch, "watch.started", after=WatchState.WATCHING, reason=None)


def _counts_from(began: ScalarSelect[Any]) -> ColumnElement[datetime]:
    """Traffic and labels are counted by the minute. Where the version was active in the minute of its reload already,
    what it did then was judged then, and counting begins with the next one."""
    earlier, later = aliased(SlotHistory), aliased(SlotHistory)
    minute = func.date_trunc("minute", began, "UTC")
    replaced = (
        select(func.min(later.at))
        .where(later.model == earlier.model, later.generation > earlier.generation)
        .correlate(earlier)
        .scalar_subquery()
    )
    was_active = (
        exists()
        .where(
            earlier.model == ModelSlots.model,
            earlier.active == ModelSlots.active,
            earlier.generation < ModelSlots.generation,
            replaced >= minute,
        )
        .correlate(ModelSlots)
    )
    return case((was_active, minute + timedelta(minutes=1)), else_=began)


async def running(session: AsyncSession) -> Sequence[Watch]:
    # In the order in which replicas lock the slots, so that nobody waits crosswise.
    query = select(Watch).where(Watch.state == WatchState.WATCHING).order_by(Watch.model)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def promise(session: AsyncSession, watch: Watch, promised: Mapping[str, Any]) -> None:
    """What the version is held to, written once: what is promised never moves with what is seen."""
    unpromised = and_(Watch.id == watch.id, Watch.promised.is_(None))
    await session.execute(update(Watch).where(unpromised).values(promised=dict(promised)))
    await session.refresh(watch, ["promised"])


async def note(session: AsyncSession, watch: Watch, numbers: Mapping[str, Any]) -> None:
    """What was seen at this look."""
    await session.execute(update(Watch).where(Watch.id == watch.id).values(numbers=dict(numbers), looked_at=clock()))
    await session.refresh(watch, ["numbers"])


async def breach(session: AsyncSession, watch: Watch, reason: str, numbers: Mapping[str, Any]) -> bool:
    """Establishes a breach, once. False where it was established before, or the watch has ended."""
    fresh = and_(Watch.id == watch.id, Watch.state == WatchState.WATCHING, Watch.breached_at.is_(None))
    values = {"breached_at": clock(), "reason": reason, "numbers": dict(numbers), "looked_at": clock()}
    written = await session.scalar(update(Watch).where(fresh).values(**values).returning(Watch.id))
    if written is None:
        return False
    await _tell(session, watch, "watch.breached", reason=reason, evidence=dict(numbers))
    return True


async def end(session: AsyncSession, watch: Watch, state: WatchState, reason: str) -> bool:
    """Ends a watch with its event. False where it has ended already."""
    if state not in TRANSITIONS[WatchState.WATCHING]:
        raise ValueError(f"a watch never goes from watching to {state}")
    ended = await session.scalar(
        update(Watch)
        .where(Watch.id == watch.id, Watch.state == WatchState.WATCHING)
        .values(state=state, ended_at=clock(), reason=reason)
        .returning(Watch.id)
    )
    if ended is None:
        return False
    before = WatchState.WATCHING
    await _tell(session, watch, f"watch.{state}", before=before, after=state, reason=reason, evidence=watch.numbers)
    return True


async def rollbacks_within(session: AsyncSession, model: str, hours: float) -> int:
    """How many watches of the model have rolled back in the last so many hours."""
    recent = Watch.ended_at > clock() - seconds(hours * 3_600)
    query = select(func.count()).where(Watch.model == model, Watch.state == WatchState.ROLLED_BACK, recent)
    return int(await session.scalar(query) or 0)


async def list_watches(
    session: AsyncSession, *, model: str | None, state: str | None, after: int | None, limit: int
) -> Sequence[Watch]:
    """Newest first, from below the id `after`; one more than `limit`."""
    query = select(Watch).order_by(Watch.id.desc()).limit(limit + 1)
    for column, value in ((Watch.model, model), (Watch.state, state)):
        query = query if value is None else query.where(column == value)
    return (await session.scalars(query if after is None else query.where(Watch.id < after))).all()


def is_over(watch: Watch, now: datetime) -> bool:
    return now >= watch.until


async def _tell(session: AsyncSession, watch: Watch, kind: str, **what: Any) -> None:
    await record(session, kind=kind, actor=REFIT, model=watch.model, version=watch.version, **what)
