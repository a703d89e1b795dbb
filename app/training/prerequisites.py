"""What must hold before a training begins: every check with its figure, whether or not it holds.

Admission refuses by this list, and `GET /training/prerequisites` shows it before anyone triggers.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import service as data
from app.db import clock
from app.definitions.service import Applied
from app.definitions.tables import ModelType
from app.errors import RefitError
from app.incidents.service import open_p1
from app.settings import Settings
from app.training import automatic
from app.training.checks import Check, a_worker_for
from app.training.tables import TrainingJob, Worker


async def of_any_job(
    session: AsyncSession, settings: Settings, applied: Applied, open_jobs: Sequence[TrainingJob], *, works: bool = True
) -> list[Check]:
    """What is asked even of a job that makes no version; `works`: its pipeline is to run, not to plan."""
    known = await session.get(ModelType, applied.definition.type)
    type, costly = applied.definition.type, known is not None and known.costly
    enabled = training_is_enabled(settings, type, costly=costly, allowed=await _allowed(session, settings))
    looks_only = not works and settings.training_enabled is not False
    return [replace(enabled, passed=enabled.passed or looks_only), nobody_waits(open_jobs)]


async def of_training(
    session: AsyncSession, applied: Applied, *, by_itself: bool, counts_in_any_case: bool = False
) -> list[Check]:
    """What is asked of a training; of one that nobody asks for by hand (`by_itself`) some more.

    `counts_in_any_case`: new rows are counted although the definition asks for none.
    """
    new = await enough_new_samples(session, applied, counts_in_any_case=counts_in_any_case)
    return [
        await quality_is_not_critical(session, applied),
        await no_p1_is_open(session, applied),
        new,
        await a_worker_is_there(session, applied),
        *(await automatic.checks(session, applied, new.value) if by_itself else []),
    ]


def training_is_enabled(settings: Settings, type: str, *, costly: bool, allowed: Sequence[str]) -> Check:
    """`allowed` are the types that may train now: whoever adds one must name them too."""
    on = settings.may_train(type, costly=costly)
    is_setup = settings.training_enabled is False
    off = f"Training of type {type} is switched off" + (
        ": it is costly, and must be allowed by name." if costly else "."
    )
    said = "Training is switched off while the service is being set up." if is_setup else off
    allow = "true" if is_setup else ",".join([*allowed, type])
    return Check(
        "training_disabled",
        passed=on,
        value=on,
        required=True,
        message="Training is on." if on else said,
        remedy=f"Set REFIT_TRAINING_ENABLED={allow} and restart the API"
        + ("." if is_setup else "; a dry run and data versions need no such leave."),
        forceable=False,
    )


async def _allowed(session: AsyncSession, settings: Settings) -> list[str]:
    types = (await session.scalars(select(ModelType).order_by(ModelType.name))).all()
    return [known.name for known in types if settings.may_train(known.name, costly=known.costly)]


def nobody_waits(open_jobs: Sequence[TrainingJob]) -> Check:
    waiting = [job.id for job in open_jobs if job.state == "queued" and job.attempt == 0]
    named = waiting[0] if waiting else "ID"
    return Check(
        "job_waiting",
        passed=not waiting,
        value=len(waiting),
        required=0,
        message=f"Job {named} of this model waits already, with other parameters." if waiting else "No job waits.",
        remedy=f"Let it run, or cancel it: refit jobs cancel {named}.",
        forceable=False,
        details={"jobs": waiting} if waiting else None,
    )


async def quality_is_not_critical(session: AsyncSession, applied: Applied) -> Check:
    asked = applied.definition.prerequisites.data_quality
    by_source = await data.quality_of_last_day(session, applied.model) if asked else {}
    worst = data.worst_of(by_source.values())
    passed = worst != "critical"
    said = f"The worst of the last 24 hours is {worst}." if worst else "Nothing was reported in the last 24 hours."
    unasked = "The definition does not ask for data quality."
    return Check(
        "data_quality_critical",
        passed=passed,
        value=worst,
        required="not critical" if asked else None,
        message="A data quality report of the last 24 hours is critical." if not passed else said if asked else unasked,
        remedy="Mend the data and report `healthy`, or wait a day; an operator may force with a reason.",
        details={"sources": by_source} if by_source else None,
    )


async def no_p1_is_open(session: AsyncSession, applied: Applied) -> Check:
    asked = applied.definition.prerequisites.no_open_p1
    incidents = await open_p1(session, applied.model) if asked else []
    named = ", ".join(f"{i.id} ({i.title})" for i in incidents)
    first = incidents[0].id if incidents else "ID"
    return Check(
        "open_p1_incident",
        passed=not incidents,
        value=len(incidents),
        required=0 if asked else None,
        message=f"A P1 incident is open: {named}." if incidents else "No P1 incident is open.",
        remedy=f"Close it with a note: `refit incidents close {first} --note …`, or POST /incidents/{first}/close.",
        details={"incidents": [i.id for i in incidents]} if incidents else None,
    )


async def enough_new_samples(session: AsyncSession, applied: Applied, *, counts_in_any_case: bool) -> Check:
    """Null: the source could not tell in time, and the worker asks again; or nothing is asked."""
    needed = applied.definition.prerequisites.min_new_samples
    fault, found = None, None
    try:
        if needed or counts_in_any_case:
            found = await data.count_new(session, applied.model, applied.definition)
    except RefitError as error:
        fault = error
    passed = not needed or (fault is None and (found is None or found >= needed))
    return Check(
        fault.code if fault else "insufficient_new_samples",
        passed=passed,
        value=found,
        required=needed,
        message=fault.message if fault else _told_samples(found, needed),
        remedy=(fault.remedy if fault else None)
        or "Wait for data, lower prerequisites.min_new_samples, or let an operator force with a reason.",
        fault=fault if needed else None,
    )


def _told_samples(found: int | None, needed: int) -> str:
    if not needed:
        known = "" if found is None else f"{found} new labelled samples since the last training; "
        return f"{known}the definition asks for none.".capitalize()
    if found is None:
        return f"The source could not tell in time; the worker asks again. {needed} new labelled samples are required."
    return f"{found} new labelled samples since the last training; {needed} are required."


async def a_worker_is_there(session: AsyncSession, applied: Applied) -> Check:
    """Shown in any case; it blocks where the definition says `prerequisites.live_worker`."""
    queue = await _queue_of(session, applied)
    live = select(Worker).where(Worker.lease_until > clock(), Worker.queues.contains([queue]))
    workers = (await session.scalars(live.order_by(Worker.started_at))).all()
    gpus = [{"host": worker.host, **gpu} for worker in workers for gpu in worker.gpus or []]
    none = f"No live worker serves the queue {queue}: the job waits until one comes."
    return Check(
        "no_live_worker",
        passed=bool(workers),
        value=len(workers),
        required=1,
        message=f"{len(workers)} live workers serve the queue {queue}." if workers else none,
        remedy=a_worker_for(queue),
        binds="every" if applied.definition.prerequisites.live_worker else "nobody",
        details={"queue": queue, "gpus": gpus or None},
    )


async def _queue_of(session: AsyncSession, applied: Applied) -> str:
    known = await session.get(ModelType, applied.definition.type)
    return applied.definition.queue or (known.queue if known else "cpu")
