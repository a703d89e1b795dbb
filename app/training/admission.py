"""Whether a training may begin: every check that blocks is named, with its figures and the way out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import service as data
from app.db import clock, seconds
from app.definitions.service import Applied
from app.errors import Refused
from app.monitoring.incidents import open_p1
from app.settings import Settings
from app.training.state import JobState
from app.training.tables import TRAINS, TrainingJob

MANUAL = "manual"


@dataclass(frozen=True)
class Blocked:
    """One check that blocks. `forceable`: an operator may override it, with a reason."""

    code: str
    message: str
    remedy: str
    forceable: bool = True


async def admit(
    session: AsyncSession,
    settings: Settings,
    applied: Applied,
    open_jobs: Sequence[TrainingJob],
    *,
    trigger: str,
    forced: bool,
    trains: bool,
) -> None:
    """Raises Refused with `reasons=[{code, message, remedy}]` where anything blocks; what makes no version has no
    prerequisites."""
    found = [_training_is_enabled(settings), _nobody_waits(open_jobs)]
    if trains:
        found += [
            await _quality_is_not_critical(session, applied),
            await _no_p1_is_open(session, applied),
            await _enough_new_samples(session, applied),
            *(await _automatic_may_run(session, applied) if trigger != MANUAL else []),
        ]
    blocking = [b for b in found if b is not None and not (forced and b.forceable)]
    if blocking:
        raise Refused(
            f"Training of {applied.model} is refused: {' '.join(b.message for b in blocking)}",
            code=blocking[0].code,
            remedy=blocking[0].remedy,
            reasons=[asdict(b) for b in blocking],
        )


def _training_is_enabled(settings: Settings) -> Blocked | None:
    if settings.training_enabled:
        return None
    return Blocked(
        "training_disabled",
        "Training is switched off while the service is being set up.",
        "Set REFIT_TRAINING_ENABLED=true and restart the API.",
        forceable=False,
    )


def _nobody_waits(open_jobs: Sequence[TrainingJob]) -> Blocked | None:
    waiting = [job.id for job in open_jobs if job.state == JobState.QUEUED and job.attempt == 0]
    if not waiting:
        return None
    return Blocked(
        "job_waiting",
        f"Job {waiting[0]} of this model waits already, with other parameters.",
        f"Let it run, or cancel it: refit jobs cancel {waiting[0]}.",
        forceable=False,
    )


async def _quality_is_not_critical(session: AsyncSession, applied: Applied) -> Blocked | None:
    asked = applied.definition.prerequisites.data_quality
    if not asked or await data.worst_quality_of_last_day(session, applied.model) != "critical":
        return None
    return Blocked(
        "data_quality_critical",
        "A data quality report of the last 24 hours is critical.",
        "Mend the data and report `healthy`, or wait a day; an operator may force with a reason.",
    )


async def _no_p1_is_open(session: AsyncSession, applied: Applied) -> Blocked | None:
    incidents = await open_p1(session, applied.model) if applied.definition.prerequisites.no_open_p1 else []
    if not incidents:
        return None
    named = ", ".join(f"{i.id} ({i.title})" for i in incidents)
    return Blocked(
        "open_p1_incident",
        f"A P1 incident is open: {named}.",
        "Close it with a note: POST /incidents/ID/close.",
    )


async def _enough_new_samples(session: AsyncSession, applied: Applied) -> Blocked | None:
    needed = applied.definition.prerequisites.min_new_samples
    # None: the source could not tell in time. The worker asks again when it has the rows.
    found = await data.count_new(session, applied.model, applied.definition) if needed else None
    if found is None or found >= needed:
        return None
    return Blocked(
        "insufficient_new_samples",
        f"{found} new labelled samples since the last training; {needed} are required.",
        "Wait for data, lower prerequisites.min_new_samples, or let an operator force with a reason.",
    )


async def _automatic_may_run(session: AsyncSession, applied: Applied) -> list[Blocked | None]:
    """Cooldown and weekly budget, which bind automatic triggers only."""
    rules = applied.definition.triggers
    of_model = (TrainingJob.model == applied.model) & TRAINS
    recent = await session.scalar(
        select(func.max(TrainingJob.finished_at)).where(
            of_model, TrainingJob.finished_at > clock() - seconds(rules.cooldown_minutes * 60)
        )
    )
    spent = await session.scalar(
        select(func.count()).where(
            of_model, TrainingJob.trigger != MANUAL, TrainingJob.created_at > clock() - seconds(7 * 86_400)
        )
    )
    cooldown = (
        Blocked(
            "cooldown",
            f"The last training ended at {recent:%Y-%m-%d %H:%M} UTC; {rules.cooldown_minutes:g} minutes must pass.",
            "Wait, or trigger by hand.",
        )
        if recent
        else None
    )
    budget = (
        Blocked(
            "weekly_budget",
            f"{spent} automatic trainings in the last seven days; the budget is {rules.weekly_budget}.",
            "Raise triggers.weekly_budget, or trigger by hand.",
        )
        if (spent or 0) >= rules.weekly_budget
        else None
    )
    return [cooldown, budget]
