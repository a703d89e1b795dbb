"""Cron expressions of the definitions: each of their times fires once, whoever ticks first.

The clock is the database's alone: a process whose own clock is two hours ahead fires nothing early and nothing twice.
Taking a time and making its job are one transaction, so a process that dies in between has done neither.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from croniter import croniter
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.db import clock
from app.definitions.tables import Model, ModelDefinition
from app.definitions.triggering import Triggers
from app.errors import RefitError
from app.events.record import record
from app.settings import Settings
from app.training.attempting import attempt
from app.training.schemas import TriggerRequest
from app.training.tables import ScheduleFire, TrainingJob

SCHEDULER = Principal("schedule", "schedule", frozenset({Role.TRAINER}))
log = logging.getLogger(__name__)

# Somebody ticks each second; a restart of them all may take so long, and misses nothing.
PUNCTUAL = timedelta(minutes=1)
SHOWN = 3


@dataclass(frozen=True)
class Scheduled:
    """A model with a cron expression, the definition's rules for it, and the newest time that was taken."""

    model: str
    triggers: Triggers
    applied_at: datetime
    taken: datetime | None

    def due(self, now: datetime) -> datetime | None:
        """The newest time that nobody has taken yet; none of those before the definition was applied."""
        due = last_due(str(self.triggers.schedule), now)
        return due if due > max(self.applied_at, self.taken or self.applied_at) else None

    def is_missed(self, late: timedelta) -> bool:
        """Whether a time this long ago is left out, by the rule of `triggers.missed`."""
        grace = timedelta(minutes=self.triggers.missed_minutes) if self.triggers.missed == "run_once" else PUNCTUAL
        return late > max(grace, PUNCTUAL)


async def fire_due(session: AsyncSession, settings: Settings) -> list[TrainingJob]:
    """The jobs of the schedules that are due now. A refusal is kept with the time it was for, never retried."""
    now = (await session.scalars(select(clock()))).one()
    jobs = []
    for scheduled in await list_scheduled(session):
        try:
            async with session.begin_nested():
                job = await _fire(session, settings, scheduled, now)
        except Exception as error:  # noqa: BLE001 - whatever one model's schedule stumbles over, the next one is due
            log.warning("the schedule of %s stumbled (%s: %s)", scheduled.model, type(error).__name__, error)
        else:
            jobs += [job] if job else []
    return jobs


async def _fire(session: AsyncSession, settings: Settings, scheduled: Scheduled, now: datetime) -> TrainingJob | None:
    due = scheduled.due(now)
    if due is None or not await _take(session, scheduled.model, due):
        return None
    return await _settle(session, settings, scheduled, due, now - due)


def last_due(schedule: str, now: datetime) -> datetime:
    """The newest time of a cron expression that is not after `now`, in UTC."""
    due: datetime = croniter(schedule, now.astimezone(UTC) + timedelta(microseconds=1)).get_prev(datetime)
    return due


def next_due(schedule: str, now: datetime) -> list[datetime]:
    """The three times after `now`, in UTC."""
    times = croniter(schedule, now.astimezone(UTC))
    return [times.get_next(datetime) for _ in range(SHOWN)]


async def list_scheduled(session: AsyncSession, model: str | None = None) -> list[Scheduled]:
    """Every model whose current definition has a schedule, or the one named."""
    triggers = ModelDefinition.definition["triggers"]
    current = (ModelDefinition.model == Model.name) & (ModelDefinition.revision == Model.revision)
    taken = select(func.max(ScheduleFire.due_at)).where(ScheduleFire.model == Model.name).scalar_subquery()
    query = select(Model.name, triggers, ModelDefinition.created_at, taken).join(ModelDefinition, current)
    query = query.where(triggers["schedule"].as_string().is_not(None)).order_by(Model.name)
    rows = await session.execute(query if model is None else query.where(Model.name == model))
    # As it was accepted: what a newer Refit would refuse goes on as before.
    return [Scheduled(name, Triggers.model_construct(**rules), at, newest) for name, rules, at, newest in rows]


async def last_fired(session: AsyncSession, models: Sequence[str]) -> dict[str, ScheduleFire]:
    """What came of the newest time of each model."""
    newest = select(ScheduleFire).ext(distinct_on(ScheduleFire.model)).where(ScheduleFire.model.in_(models))
    rows = await session.scalars(newest.order_by(ScheduleFire.model, ScheduleFire.due_at.desc()))
    return {row.model: row for row in rows}


async def _take(session: AsyncSession, model: str, due: datetime) -> bool:
    """True for the one process that fires this time."""
    fire = insert(ScheduleFire).values(model=model, due_at=due, outcome="fired").on_conflict_do_nothing()
    return (await session.execute(fire.returning(ScheduleFire.model))).first() is not None


async def _settle(
    session: AsyncSession, settings: Settings, scheduled: Scheduled, due: datetime, late: timedelta
) -> TrainingJob | None:
    """What comes of a time that was taken: a job, one that was open already, a refusal, or nothing since it was
    missed."""
    if scheduled.is_missed(late):
        rule = f"{scheduled.triggers.missed}, {scheduled.triggers.missed_minutes:g} minutes"
        await _tell(session, scheduled.model, due, "missed", reason=f"nobody ticked at that time ({rule})", late=late)
        return None
    request = TriggerRequest(model=scheduled.model, reason=f"schedule of {due:%Y-%m-%d %H:%M} UTC")
    found = await attempt(session, settings, request, SCHEDULER, trigger="schedule")
    if isinstance(found, RefitError):
        evidence = {"code": found.code} | found.details
        await _tell(session, scheduled.model, due, "refused", reason=found.message, late=late, evidence=evidence)
        return None
    outcome = "fired" if found.outcome == "accepted" else found.outcome
    await _tell(session, scheduled.model, due, outcome, late=late, job_id=found.job.id)
    return found.job


async def _tell(
    session: AsyncSession,
    model: str,
    due: datetime,
    outcome: str,
    *,
    late: timedelta,
    reason: str | None = None,
    job_id: int | None = None,
    evidence: dict[str, Any] | None = None,
) -> None:
    """Keeps what came of a time with it, and in the record."""
    fired = (ScheduleFire.model == model) & (ScheduleFire.due_at == due)
    await session.execute(update(ScheduleFire).where(fired).values(outcome=outcome, reason=reason, job_id=job_id))
    figures = {"due_at": due.isoformat(), "late_seconds": round(late.total_seconds(), 1)} | (evidence or {})
    of: dict[str, Any] = {"model": model, "job_id": job_id}
    await record(session, kind=f"schedule.{outcome}", actor=str(SCHEDULER), **of, reason=reason, evidence=figures)
