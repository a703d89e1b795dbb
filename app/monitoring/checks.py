"""Runs monitors: those that are due, or those that somebody asks for; writes down what each says, and on which numbers;
makes one job of all that a model's monitors found at once.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.db import clock
from app.definitions.service import Applied, load
from app.definitions.tables import Model
from app.errors import RefitError
from app.events.record import REFIT, record
from app.monitoring import monitors
from app.monitoring.monitors import Finding, MonitorOptions, Numbers, State, Subject
from app.monitoring.reference import profile_of
from app.monitoring.tables import Monitor, MonitorCheck, MonitorRound
from app.registry.tables import ModelSlots, ModelVersion
from app.settings import Settings
from app.training.attempting import trigger_automatically
from app.training.schemas import TriggerRequest
from app.training.tables import TrainingJob

log = logging.getLogger(__name__)

MONITORS = Principal("monitors", "monitors", frozenset({Role.TRAINER}))
TRIGGER = "monitor"
# What is told of a change into this state.
TOLD = {State.OK: "recovered", State.PENDING: "pending", State.BREACHED: "breached", State.UNKNOWN: "silent"}


@dataclass(frozen=True)
class Checked:
    """What one monitor found, and what became of it: `outcome` is that of its trigger, or the code of a refusal."""

    model: str
    name: str
    kind: str
    finding: Finding
    numbers: Numbers
    before: State | None
    outcome: str | None = None
    job_id: int | None = None


async def check_due(session: AsyncSession, settings: Settings) -> list[TrainingJob]:
    """Runs what is due, of every model; the jobs that were made of it. What fails with one leaves the others alone."""
    now = await _now(session)
    jobs = []
    for model in await _due(session, now):
        try:
            async with session.begin_nested():
                jobs += (await check(session, settings, await load(session, model), only_due=True))[1]
        except Exception as error:  # noqa: BLE001 - whatever one model's monitors stumble over, the next one is due
            log.warning("the monitors of %s stumbled (%s: %s)", model, type(error).__name__, error)
    return jobs


async def check(
    session: AsyncSession, settings: Settings, applied: Applied, *, only_due: bool = False, trigger: bool = True
) -> tuple[list[Checked], list[TrainingJob]]:
    """Runs a model's monitors, writes down what they found, and makes a job of what is breached; without `trigger` only
    says what they find. With `only_due` nothing, where somebody else is at it."""
    if not await _lock(session, applied.model, wait=not only_due):
        return [], []
    now = await _now(session)
    known = {row.name: row for row in await list_monitors(session, applied.model)}
    watched = applied.definition.watched
    due = {name: o for name, o in watched.items() if not only_due or _due_at(known.get(name), o, now) <= now}
    subject = await _subject(session, settings.store, applied.model, now)
    found = [await _look(subject, applied.model, name, options, known.get(name)) for name, options in due.items()]
    if not trigger:
        # Who only looks neither postpones the next check nor takes back what came of the last one.
        return found, []
    found, jobs = await _trigger(session, settings, applied, found, due)
    for each in found:
        await _keep(session, each, known.get(each.name), due[each.name], subject, now)
    await _forget(session, applied.model, known.keys() - watched.keys())
    await _next_round(session, applied, watched, known, due, now)
    return found, jobs


async def list_monitors(session: AsyncSession, model: str | None) -> Sequence[Monitor]:
    query = select(Monitor).order_by(Monitor.model, Monitor.name).execution_options(populate_existing=True)
    return (await session.scalars(query if model is None else query.where(Monitor.model == model))).all()


async def list_checks(
    session: AsyncSession, model: str, name: str | None, *, after: int | None, limit: int
) -> Sequence[MonitorCheck]:
    """Newest first, from below the id `after`; one more than `limit`."""
    query = select(MonitorCheck).where(MonitorCheck.model == model).order_by(MonitorCheck.id.desc()).limit(limit + 1)
    query = query if name is None else query.where(MonitorCheck.name == name)
    return (await session.scalars(query if after is None else query.where(MonitorCheck.id < after))).all()


async def _lock(session: AsyncSession, model: str, *, wait: bool) -> bool:
    """Two that check at once would both find the same news. False where somebody is at it and nobody waits."""
    lock = func.hashtextextended(f"monitors:{model}", 0)
    if not wait:
        return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(lock))))
    await session.execute(select(func.pg_advisory_xact_lock(lock)))
    return True


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.scalars(select(clock()))).one()
    return now


async def _due(session: AsyncSession, now: datetime) -> Sequence[str]:
    """Models whose round has come, that never had one, or whose definition has changed."""
    is_due = or_(MonitorRound.due_at.is_(None), MonitorRound.due_at <= now, MonitorRound.revision != Model.revision)
    query = select(Model.name).outerjoin(MonitorRound, MonitorRound.model == Model.name).where(is_due)
    return (await session.scalars(query.order_by(Model.name))).all()


def _due_at(known: Monitor | None, options: MonitorOptions, now: datetime) -> datetime:
    """By how often the definition says now: it may have changed since the last look."""
    return now if known is None else known.checked_at + timedelta(minutes=options.every_minutes)


def _is(model: str, name: str) -> ColumnElement[bool]:
    return (Monitor.model == model) & (Monitor.name == name)


async def _subject(session: AsyncSession, store: Path, model: str, now: datetime) -> Subject | None:
    """None while no version is active: there is nothing to monitor."""
    active = select(ModelSlots.active).where(ModelSlots.model == model).scalar_subquery()
    query = select(ModelVersion).where(ModelVersion.model == model, ModelVersion.number == active)
    version = await session.scalar(query)
    if version is None:
        return None
    return Subject(session, model, version.number, now, version.metrics, profile_of(store, version.artifact))


async def _look(
    subject: Subject | None, model: str, name: str, options: MonitorOptions, known: Monitor | None
) -> Checked:
    before = State(known.state) if known else None
    if subject is None:
        return Checked(model, name, options.kind, Finding(State.UNKNOWN, "No version is active."), {}, before)
    try:
        async with subject.session.begin_nested():
            finding, numbers = await _found(subject, options.of_version(subject.version))
    # Whatever one monitor stumbles over, the others are asked all the same.
    except Exception as error:
        log.exception("monitor %s of %s stumbled", name, model)
        finding, numbers = Finding(State.UNKNOWN, f"It could not be checked: {type(error).__name__}: {error}."), {}
    return Checked(model, name, options.kind, finding, numbers, before)


async def _found(subject: Subject, options: MonitorOptions) -> tuple[Finding, Numbers]:
    """Raises ValueError where the numbers hold one that JSON does not know."""
    kind = monitors.find(options.kind)
    numbers = await kind.read(subject, options)
    json.dumps(numbers, allow_nan=False)
    return kind.judge(options, numbers), numbers


async def _trigger(
    session: AsyncSession,
    settings: Settings,
    applied: Applied,
    found: list[Checked],
    watched: Mapping[str, MonitorOptions],
) -> tuple[list[Checked], list[TrainingJob]]:
    """One job of all that is breached, however many monitors found something."""
    breached = [each for each in found if each.finding.state == State.BREACHED and watched[each.name].trigger]
    if not breached:
        return found, []
    reason = " ".join(f"{each.name}: {each.finding.reason}" for each in breached)[:2_000]
    urgent = any(watched[each.name].is_urgent for each in breached)
    request = TriggerRequest(model=applied.model, reason=reason, priority="high" if urgent else "normal")
    because = {each.name: {"reason": each.finding.reason, "numbers": each.numbers} for each in breached}
    made = await trigger_automatically(session, settings, request, MONITORS, trigger=TRIGGER, because=because)
    if isinstance(made, RefitError):
        outcome, job_id, jobs = made.code, None, []
    else:
        outcome, job_id, jobs = made.outcome, made.job.id, [made.job]
    told = {each.name for each in breached}
    return [replace(each, outcome=outcome, job_id=job_id) if each.name in told else each for each in found], jobs


async def _keep(
    session: AsyncSession,
    checked: Checked,
    known: Monitor | None,
    options: MonitorOptions,
    subject: Subject | None,
    now: datetime,
) -> None:
    """The check for ever, the state until the next one, and an event where that is news."""
    version = subject.version if subject else None
    # A silence goes on where another version falls into it.
    is_same = (
        known is not None
        and known.state == checked.finding.state
        and (known.version == version or checked.finding.state == State.UNKNOWN)
    )
    since = known.since if known is not None and is_same else now
    what = {
        "model": checked.model,
        "name": checked.name,
        "version": version,
        "state": checked.finding.state,
        "numbers": checked.numbers,
        "reason": checked.finding.reason,
        "outcome": checked.outcome,
        "job_id": checked.job_id,
    }
    await session.execute(insert(MonitorCheck).values(what))
    state = what | {
        "kind": checked.kind,
        "since": since,
        "checked_at": now,
        "due_at": now + timedelta(minutes=options.every_minutes),
    }
    kept = upsert(Monitor).values(state)
    await session.execute(kept.on_conflict_do_update(index_elements=["model", "name"], set_=state))
    changed = (checked.before or State.UNKNOWN) != checked.finding.state
    is_ok_from_the_first = checked.before is None and checked.finding.state == State.OK
    # A version that has just become active has not been asked anything yet: nobody has fallen silent.
    is_new = checked.finding.state == State.UNKNOWN and known is not None and known.version != version
    if subject and (
        (changed and not is_ok_from_the_first and not is_new) or _has_become_long(checked, known, since, now, options)
    ):
        await _tell(session, checked, subject.version)


def _has_become_long(
    checked: Checked, known: Monitor | None, since: datetime, now: datetime, options: MonitorOptions
) -> bool:
    """True at the one check at which a silence has lasted for as long as may be."""
    long = timedelta(minutes=options.silent_minutes)
    return (
        checked.finding.state == State.UNKNOWN and known is not None and known.checked_at - since < long <= now - since
    )


async def _tell(session: AsyncSession, checked: Checked, version: int) -> None:
    await record(
        session,
        kind=f"monitor.{TOLD[checked.finding.state]}",
        actor=REFIT,
        model=checked.model,
        version=version,
        job_id=checked.job_id,
        before=checked.before,
        after=checked.finding.state,
        reason=f"{checked.name}: {checked.finding.reason}",
        evidence={"monitor": checked.name, "numbers": checked.numbers, "outcome": checked.outcome},
    )


async def _forget(session: AsyncSession, model: str, names: set[str]) -> None:
    """Monitors that the definition no longer has; what they found stays in the checks."""
    if names:
        await session.execute(delete(Monitor).where(Monitor.model == model, Monitor.name.in_(names)))


async def _next_round(
    session: AsyncSession,
    applied: Applied,
    watched: Mapping[str, MonitorOptions],
    known: Mapping[str, Monitor],
    checked: Mapping[str, MonitorOptions],
    now: datetime,
) -> None:
    fresh = [now + timedelta(minutes=options.every_minutes) for options in checked.values()]
    others = {name: _due_at(known.get(name), options, now) for name, options in watched.items() if name not in checked}
    for name, at in others.items():
        await session.execute(update(Monitor).where(_is(applied.model, name), Monitor.due_at != at).values(due_at=at))
    # A model without monitors is looked at again when its definition changes.
    due = min([*fresh, *others.values()], default=now + timedelta(days=365))
    values = {"model": applied.model, "revision": applied.revision, "due_at": due}
    kept = upsert(MonitorRound).values(values)
    await session.execute(kept.on_conflict_do_update(index_elements=["model"], set_=values))
