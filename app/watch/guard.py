"""What acts on watches, each second, in whichever process gets the lock: looks, establishes, rolls back.

    begin → look (a breach is written down) → act (the version before is active again, held, with an incident) → assure

Looking and acting are transactions of their own. A guard that dies between them has written down what the next one
does.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.definitions.service import load
from app.events.record import REFIT
from app.incidents import links
from app.incidents.service import open_incident
from app.incidents.tables import Incident
from app.monitoring.reference import profile_of
from app.registry import swap
from app.registry.swap import Action, Change, ReplicasNotReady
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory
from app.watch import life
from app.watch.life import WatchState
from app.watch.numbers import before, seen
from app.watch.promise import promise
from app.watch.tables import Watch
from app.watch.verdict import Seen, look

log = logging.getLogger(__name__)

# More than so many rollbacks by itself in an hour, and something is wrong that no rollback cures.
MOST_ROLLBACKS, WITHIN_HOURS = 2, 1.0
# Replicas that are not warm after so long are left out: going back matters more.
PATIENCE = timedelta(seconds=4)
# So long after a breach the slots must have changed, or people are called.
OVERDUE_SECONDS = 10.0
# How the cause of such an incident begins; the watch's id follows.
OVERDUE = "watch-overdue-"


async def guard(session: AsyncSession, store: Path) -> None:
    """Begins and looks at every watch."""
    await life.begin_due(session)
    now: datetime = (await session.scalars(select(clock()))).one()
    for watch in await life.running(session):
        async with _on_its_own(session, watch):
            if not await _is_superseded(session, watch) and watch.breached_at is None:
                await _look(session, store, watch, now)


async def act(session: AsyncSession) -> None:
    """Rolls back what is established. What cannot be done now is tried again in a second."""
    now: datetime = (await session.scalars(select(clock()))).one()
    for watch in await life.running(session):
        if watch.breached_at is not None:
            async with _on_its_own(session, watch):
                await _act(session, watch, now)


async def assure(session: AsyncSession) -> None:
    """The watchdog: a breach that has led to nothing calls people, once, whoever's fault it is."""
    cause = func.concat(OVERDUE, Watch.id)
    untold = ~exists().where(Incident.dedupe == cause)
    overdue = Watch.breached_at < clock() - seconds(OVERDUE_SECONDS)
    still = select(Watch).where(Watch.state == WatchState.WATCHING, overdue, untold)
    went_back = exists().where(
        SlotHistory.model == Watch.model,
        SlotHistory.generation > Watch.generation,
        SlotHistory.action == Action.ROLLED_BACK,
    )
    recent = Watch.ended_at > clock() - seconds(3_600)
    unchanged = select(Watch).where(Watch.state == WatchState.ROLLED_BACK, recent, ~went_back, untold)
    for watch in [*(await session.scalars(still)).all(), *(await session.scalars(unchanged)).all()]:
        await open_incident(
            session,
            severity="P1",
            title=f"Version {watch.version} of {watch.model} failed its watch and is still there: {watch.reason}",
            actor=REFIT,
            model=watch.model,
            evidence={"breached_at": str(watch.breached_at)},
            links=[links.to_watch(watch.id), links.to_version(watch.model, watch.version)],
            dedupe=f"{OVERDUE}{watch.id}",
        )


@asynccontextmanager
async def _on_its_own(session: AsyncSession, watch: Watch) -> AsyncIterator[None]:
    """What fails with one watch leaves the others alone, and is tried again in a second."""
    # By now: what is undone cannot be read any more.
    id, model = watch.id, watch.model
    try:
        async with session.begin_nested():
            yield
    except Exception as error:  # noqa: BLE001 - whatever one watch stumbles over, the next one is looked at
        log.warning("the watch %s of %s stumbled (%s: %s)", id, model, type(error).__name__, error)


async def _look(session: AsyncSession, store: Path, watch: Watch, now: datetime) -> None:
    if watch.promised is None:
        await life.promise(session, watch, await _promised(session, store, watch))
    numbers = await seen(session, watch, now)
    found = look(watch.promised or {}, numbers)
    told = numbers | {"checks": {name: each.told() for name, each in found.items()}}
    established = [each for each in found.values() if each.is_established]
    if established:
        await life.breach(session, watch, _sentence(established), told)
        return
    if told != watch.numbers:
        await life.note(session, watch, told)
    if life.is_over(watch, now):
        await _end(session, watch, found, numbers)


async def _end(session: AsyncSession, watch: Watch, found: Mapping[str, Seen], numbers: Mapping[str, Any]) -> None:
    least = (await load(session, watch.model)).definition.watch.min_requests
    if max([numbers["requests"], *(each.n for each in found.values())]) < least:
        reason = f"{numbers['requests']} requests were answered in the whole watch; {least} are needed to say anything."
        await life.end(session, watch, WatchState.INCONCLUSIVE, reason)
        return
    unseen = [name for name, each in found.items() if not each.n]
    told = f"Nothing was established against it by {numbers['requests']} requests"
    without = f"; nothing came for {', '.join(unseen)}" if unseen else ""
    await life.end(session, watch, WatchState.PASSED, f"{told}{without}.")


async def _act(session: AsyncSession, watch: Watch, now: datetime) -> None:
    options = (await load(session, watch.model)).definition.watch
    if options.rollback == "manual":
        await _hold(session, watch, "the definition leaves rollbacks to people")
    elif await life.rollbacks_within(session, watch.model, WITHIN_HOURS) >= MOST_ROLLBACKS:
        await _hold(session, watch, f"{MOST_ROLLBACKS} rollbacks by itself within an hour are the most there may be")
    else:
        await _roll_back(session, watch, now)


async def _roll_back(session: AsyncSession, watch: Watch, now: datetime) -> None:
    """Replicas hold the target warm, for it stood by all the time; where they do not, they get a moment to load it."""
    assert watch.breached_at is not None
    reason = f"the watch found: {watch.reason}"
    expected = Change(watch.model, REFIT, reason, expected_active=watch.version)
    target, _ = await swap.restore(session, expected, watch.previous)
    try:
        change = replace(expected, force=now - watch.breached_at > PATIENCE)
        await swap.rollback(session, change, target, hold=True)
    except ReplicasNotReady:
        return
    if await life.end(session, watch, WatchState.ROLLED_BACK, str(watch.reason)):
        await _tell_people(session, watch, "P2", f"Version {watch.version} of {watch.model} was rolled back")


async def _hold(session: AsyncSession, watch: Watch, why: str) -> None:
    change = Change(watch.model, REFIT, f"the watch found: {watch.reason} ({why})", expected_active=watch.version)
    await swap.hold(session, change)
    if await life.end(session, watch, WatchState.HELD, f"{watch.reason} Nothing was rolled back: {why}."):
        told = f"Version {watch.version} of {watch.model} fails its watch and stays active, since {why}"
        await _tell_people(session, watch, "P1", told)


async def _tell_people(session: AsyncSession, watch: Watch, severity: str, what: str) -> None:
    await open_incident(
        session,
        severity=severity,
        title=f"{what}: {watch.reason}",
        actor=REFIT,
        model=watch.model,
        evidence={"numbers": watch.numbers},
        links=[links.to_watch(watch.id), links.to_version(watch.model, watch.version)],
        dedupe=f"watch-{watch.id}",
    )


async def _is_superseded(session: AsyncSession, watch: Watch) -> bool:
    slots = await session.get_one(ModelSlots, watch.model, populate_existing=True)
    if slots.generation == watch.generation:
        return False
    query = select(SlotHistory).where(SlotHistory.model == watch.model, SlotHistory.generation > watch.generation)
    by = (await session.scalars(query.order_by(SlotHistory.id).limit(1))).one()
    reason = f"Version {by.active} became active by {by.actor} ({by.action.replace('_', ' ')})."
    return await life.end(session, watch, WatchState.SUPERSEDED, reason)


async def _promised(session: AsyncSession, store: Path, watch: Watch) -> dict[str, Any]:
    version = await session.get_one(ModelVersion, (watch.model, watch.version))
    replaced = await session.get_one(ModelVersion, (watch.model, watch.previous))
    definition = (await load(session, watch.model)).definition
    latency = definition.latency
    return promise(
        definition.watch,
        version.gate.get("standings", {}),
        latency.max if latency else None,
        profile_of(store, version.artifact),
        await before(session, watch, profile_of(store, replaced.artifact)),
    )


def _sentence(established: list[Seen]) -> str:
    told = "; ".join(each.reason for each in established)
    return f"{told[0].upper()}{told[1:]}."
