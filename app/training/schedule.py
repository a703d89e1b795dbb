"""Cron expressions of the definitions: each of their times fires once, whoever ticks first."""

from datetime import UTC, datetime, timedelta

from croniter import croniter
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.db import clock
from app.definitions.tables import Model, ModelDefinition
from app.errors import RefitError
from app.settings import Settings
from app.training import service
from app.training.schemas import TriggerRequest
from app.training.tables import ScheduleFire, TrainingJob

SCHEDULER = Principal("schedule", "schedule", frozenset({Role.TRAINER}))
# A time that nobody ticked for is made up for within the hour; an older one is left out.
MISSED = timedelta(hours=1)


async def fire_due(session: AsyncSession, settings: Settings) -> list[TrainingJob]:
    """The jobs of the schedules that are due now. A refusal is kept with the time it was for, never retried."""
    now = (await session.scalars(select(clock()))).one()
    jobs = []
    for model, schedule, applied_at in await _scheduled(session):
        due = last_due(schedule, now)
        if applied_at < due and now - due <= MISSED and await _take(session, model, due):
            job = await _fire(session, settings, model, due)
            jobs += [job] if job else []
    return jobs


def last_due(schedule: str, now: datetime) -> datetime:
    """The newest time of a cron expression that is not after `now`, in UTC."""
    due: datetime = croniter(schedule, now.astimezone(UTC) + timedelta(microseconds=1)).get_prev(datetime)
    return due


async def _scheduled(session: AsyncSession) -> list[tuple[str, str, datetime]]:
    """(model, cron, when that definition was applied) of every model with a schedule."""
    schedule = ModelDefinition.definition["triggers"]["schedule"].as_string()
    current = (ModelDefinition.model == Model.name) & (ModelDefinition.revision == Model.revision)
    query = select(Model.name, schedule, ModelDefinition.created_at).join(ModelDefinition, current)
    return [tuple(row) for row in await session.execute(query.where(schedule.is_not(None)))]


async def _take(session: AsyncSession, model: str, due: datetime) -> bool:
    """True for the one process that fires this time."""
    fire = insert(ScheduleFire).values(model=model, due_at=due, outcome="fired").on_conflict_do_nothing()
    return (await session.execute(fire.returning(ScheduleFire.model))).first() is not None


async def _fire(session: AsyncSession, settings: Settings, model: str, due: datetime) -> TrainingJob | None:
    request = TriggerRequest(model=model, reason=f"schedule of {due:%Y-%m-%d %H:%M} UTC")
    try:
        async with session.begin_nested():
            triggered = await service.trigger(session, settings, request, SCHEDULER, trigger="schedule")
    except RefitError as refusal:
        fired = (ScheduleFire.model == model) & (ScheduleFire.due_at == due)
        await session.execute(update(ScheduleFire).where(fired).values(outcome=refusal.message))
        return None
    return triggered.job
