"""The life of a job. Every change of `training_jobs.state` is in this file, and each consults TRANSITIONS.

    queued ─▶ running ─▶ completed | failed | cancelled
      │  ▲       │
      │  └───────┘  the lease ran out, the worker drains, or memory did: back to the queue, resumes from its checkpoint
      └─────────────▶ cancelled

Concurrency lives in the WHERE of each UPDATE: a claim is one guarded statement that gives a lease and raises the fence;
every later write of the runner carries that fence and an unexpired lease, so the loser of any race changes nothing.
All times are the database's clock.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db import clock, notify, seconds
from app.events.record import REFIT, record
from app.incidents.service import open_incident
from app.registry.tables import ModelVersion
from app.training.confirmation import token_of
from app.training.failures import open_after_repeated
from app.training.tables import TrainingJob

# Said here: the model whose jobs have changed.
CHANNEL = "refit_jobs"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
OPEN = tuple(state for state in JobState if not state.is_terminal)
TERMINAL = tuple(state for state in JobState if state.is_terminal)

LOST = {
    "code": "worker_lost",
    "message": "The job's process or its worker died on every attempt.",
    "remedy": "Read the last attempt's log. Often memory ran out: lower training.batch_size or give the worker more.",
}
# What a runner holds, and gives up in every transition out of running.
RELEASED: dict[str, Any] = {"owner": None, "lease_until": None}


@dataclass(frozen=True)
class Claim:
    """The right to run a job's attempt for as long as its lease is renewed."""

    job_id: int
    model: str
    owner: uuid.UUID
    fence: int
    attempt: int


async def _move(
    session: AsyncSession, source: JobState, target: JobState, *where: ColumnElement[bool], **values: Any
) -> Sequence[TrainingJob]:
    """The one statement that changes state: from `source` to `target`, guarded by `where`; the rows it changed."""
    if target not in TRANSITIONS[source]:
        raise ValueError(f"a job never goes from {source} to {target}")
    if target.is_terminal:
        values["finished_at"] = clock()
    moved = await session.scalars(
        update(TrainingJob)
        .where(TrainingJob.state == source, *where)
        .values(state=target, **values)
        .returning(TrainingJob)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    jobs = moved.all()
    for job in jobs:
        await notify(session, CHANNEL, job.model)
    return jobs


def _held(claim: Claim) -> ColumnElement[bool]:
    """True only while the claim stands: the fence is the one given, and the lease has not run out."""
    return and_(
        TrainingJob.id == claim.job_id,
        TrainingJob.owner == claim.owner,
        TrainingJob.fence == claim.fence,
        TrainingJob.lease_until > clock(),
    )


async def claim(session: AsyncSession, owner: uuid.UUID, queues: Sequence[str], lease: float) -> TrainingJob | None:
    """The best waiting job of these queues, now running under a lease of `lease` seconds; None where none waits.

    Never two of one model: a unique index forbids it, and whoever loses that race gets None and asks again.
    """
    other = aliased(TrainingJob)
    best = (
        select(TrainingJob.id)
        .where(
            TrainingJob.state == JobState.QUEUED,
            TrainingJob.queue.in_(queues),
            ~exists().where(other.model == TrainingJob.model, other.state == JobState.RUNNING),
        )
        .order_by(TrainingJob.priority, TrainingJob.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    try:
        async with session.begin_nested():
            jobs = await _move(
                session,
                JobState.QUEUED,
                JobState.RUNNING,
                TrainingJob.id == best,
                owner=owner,
                lease_until=clock() + seconds(lease),
                attempt=TrainingJob.attempt + 1,
                fence=TrainingJob.fence + 1,
                started_at=func.coalesce(TrainingJob.started_at, clock()),
                advanced_at=clock(),
                stage=None,
                progress=0.0,
                progress_note=None,
            )
    except IntegrityError:
        return None
    for job in jobs:
        await _tell(session, job, "job.started", before=JobState.QUEUED, evidence={"attempt": job.attempt})
    return jobs[0] if jobs else None


@dataclass(frozen=True)
class Beat:
    """What the runner learns from a renewal."""

    cancel_requested: bool
    seconds_without_progress: float


async def renew(session: AsyncSession, claim: Claim, lease: float) -> Beat | None:
    """Another `lease` seconds. None: the claim is lost, so the attempt's process group must be stopped at once."""
    row = (
        await session.execute(
            update(TrainingJob)
            .where(TrainingJob.state == JobState.RUNNING, _held(claim))
            .values(lease_until=clock() + seconds(lease))
            .returning(
                TrainingJob.cancel_requested_at,
                func.extract("epoch", clock() - TrainingJob.advanced_at),
            )
        )
    ).one_or_none()
    return None if row is None else Beat(row[0] is not None, float(row[1]))


async def advance(session: AsyncSession, claim: Claim, **figures: Any) -> bool:
    """Writes stage, progress, note, data version… of a running attempt. False: the claim is lost, nothing changed."""
    row = await session.execute(
        update(TrainingJob)
        .where(TrainingJob.state == JobState.RUNNING, _held(claim))
        .values(advanced_at=clock(), **figures)
        .returning(TrainingJob.id)
    )
    if row.first() is None:
        return False
    await notify(session, CHANNEL, claim.model)
    return True


async def holds(session: AsyncSession, claim: Claim) -> bool:
    """Whether the claim stands; if it does, it stands until this transaction ends, because its row is locked."""
    held = select(TrainingJob.id).where(TrainingJob.state == JobState.RUNNING, _held(claim))
    return await session.scalar(held.with_for_update(key_share=True)) is not None


async def complete(session: AsyncSession, claim: Claim, version: Mapping[str, Any], **figures: Any) -> int | None:
    """Completion and publication are one fenced statement: the number of the new version, or None to the loser."""
    done = (
        update(TrainingJob)
        .where(TrainingJob.state == _allowed(JobState.RUNNING, JobState.COMPLETED), _held(claim))
        .values(state=JobState.COMPLETED, finished_at=clock(), progress=1.0, **RELEASED, **figures)
        .returning(TrainingJob.id, TrainingJob.model, TrainingJob.definition_revision)
        .cte("done")
    )
    number = select(func.coalesce(func.max(ModelVersion.number), 0) + 1).where(ModelVersion.model == done.c.model)
    columns = ["model", "number", "job_id", "definition_revision", *version]
    values = [
        done.c.model,
        number.scalar_subquery(),
        done.c.id,
        done.c.definition_revision,
        *(literal(value, ModelVersion.__table__.c[name].type) for name, value in version.items()),
    ]
    published = await session.scalar(
        insert(ModelVersion).from_select(columns, select(*values)).returning(ModelVersion.number)
    )
    if published is None:
        return None
    job = await session.get_one(TrainingJob, claim.job_id, populate_existing=True)
    job.version = published
    await notify(session, CHANNEL, job.model)
    evidence = {"verdict": version["verdict"], "artifact": version["artifact"]}
    await _tell(session, job, "job.completed", before=JobState.RUNNING, version=published, evidence=evidence)
    return int(published)


async def complete_without_version(
    session: AsyncSession, claim: Claim, plan: dict[str, Any] | None, **figures: Any
) -> bool:
    """A dry run ends with its plan and the token that confirms it, an evaluation with its figures, a job that only
    takes a data version with nothing more."""
    ended = {"plan": plan, "progress": 1.0, **RELEASED, **figures}
    jobs = await _move(session, JobState.RUNNING, JobState.COMPLETED, _held(claim), **ended)
    for job in jobs if plan is not None else ():
        job.confirmation = await token_of(session, job)
    return await _told(session, jobs, "job.completed", before=JobState.RUNNING)


async def fail(session: AsyncSession, claim: Claim, error: Mapping[str, Any]) -> bool:
    """False to the loser of the claim."""
    jobs = await _move(session, JobState.RUNNING, JobState.FAILED, _held(claim), error=dict(error), **RELEASED)
    told = await _told(session, jobs, "job.failed", before=JobState.RUNNING, evidence=dict(error))
    await open_after_repeated(session, jobs)
    return told


async def confirm_cancelled(session: AsyncSession, claim: Claim) -> bool:
    """Called once the attempt's process group is gone, never before."""
    jobs = await _move(session, JobState.RUNNING, JobState.CANCELLED, _held(claim), **RELEASED)
    return await _told(session, jobs, "job.cancelled", before=JobState.RUNNING)


async def release(session: AsyncSession, claim: Claim, *, reason: str, counts: bool, **figures: Any) -> bool:
    """Back to the queue at once, to resume from the checkpoint. An attempt that does not count raises the cap by one.

    An attempt that counts and was the last one fails as `worker_lost`; a job that was asked to cancel is cancelled, for
    its processes are gone. False to the loser of the claim.
    """
    asked = _held(claim) & TrainingJob.cancel_requested_at.is_not(None)
    cancelled = await _move(session, JobState.RUNNING, JobState.CANCELLED, asked, **RELEASED)
    if await _told(session, cancelled, "job.cancelled", before=JobState.RUNNING, reason=reason):
        return True
    if counts:
        exhausted = _held(claim) & (TrainingJob.attempt >= TrainingJob.max_attempts)
        if await _give_up(session, exhausted, **RELEASED):
            return True
    jobs = await _move(
        session,
        JobState.RUNNING,
        JobState.QUEUED,
        _held(claim),
        max_attempts=TrainingJob.max_attempts + (0 if counts else 1),
        ring_at=clock(),
        **RELEASED,
        **figures,
    )
    return await _told(session, jobs, "job.requeued", before=JobState.RUNNING, reason=reason)


async def request_cancel(session: AsyncSession, job_id: int, *, actor: str, reason: str | None) -> TrainingJob | None:
    """A waiting job is cancelled at once; a running one is asked to stop and runs until its processes are gone.

    None where the job has ended already.
    """
    # Held from here on: between the two statements a sweep could put a running job back into the queue.
    await session.execute(select(TrainingJob.id).where(TrainingJob.id == job_id).with_for_update())
    jobs = await _move(
        session,
        JobState.QUEUED,
        JobState.CANCELLED,
        TrainingJob.id == job_id,
        cancel_requested_at=clock(),
    )
    if await _told(session, jobs, "job.cancelled", before=JobState.QUEUED, actor=actor, reason=reason):
        return jobs[0]
    asked = await session.scalar(
        update(TrainingJob)
        .where(TrainingJob.id == job_id, TrainingJob.state == JobState.RUNNING)
        .values(cancel_requested_at=func.coalesce(TrainingJob.cancel_requested_at, clock()))
        .returning(TrainingJob)
        .execution_options(populate_existing=True)
    )
    if asked is not None:
        await notify(session, CHANNEL, asked.model)
        await _tell(session, asked, "job.cancel_requested", actor=actor, reason=reason)
    return asked


async def expire(session: AsyncSession) -> Sequence[TrainingJob]:
    """Takes jobs from runners whose lease ran out. The state test stands inside each UPDATE (PROTOCOL).

    Who was asked to cancel is cancelled, who has attempts left waits again, the rest have failed as `worker_lost`.
    A runner that still lives has stopped its processes by itself: its own deadline is earlier than the database's.
    """
    expired = TrainingJob.lease_until < clock()
    asked = expired & TrainingJob.cancel_requested_at.is_not(None)
    exhausted = expired & (TrainingJob.attempt >= TrainingJob.max_attempts)
    next_fence = {"fence": TrainingJob.fence + 1, **RELEASED}
    cancelled = await _move(session, JobState.RUNNING, JobState.CANCELLED, asked, **next_fence)
    await _told(session, cancelled, "job.cancelled", before=JobState.RUNNING, reason="its worker was lost")
    failed = await _give_up(session, exhausted, **next_fence)
    requeued = await _move(session, JobState.RUNNING, JobState.QUEUED, expired, ring_at=clock(), **next_fence)
    await _told(session, requeued, "job.requeued", before=JobState.RUNNING, reason="its lease ran out")
    return [*cancelled, *failed, *requeued]


async def take_rings(session: AsyncSession, every: float, limit: int = 100) -> list[tuple[int, str, int]]:
    """(id, queue, priority) of waiting jobs whose bell is due; the next is due in `every` s. Commit, then ring."""
    due = (
        select(TrainingJob.id)
        .where(TrainingJob.state == JobState.QUEUED, TrainingJob.ring_at <= clock())
        .order_by(TrainingJob.priority, TrainingJob.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = await session.execute(
        update(TrainingJob)
        .where(TrainingJob.id.in_(due))
        .values(ring_at=clock() + seconds(every))
        .returning(TrainingJob.id, TrainingJob.queue, TrainingJob.priority)
    )
    return [(row.id, row.queue, row.priority) for row in rows]


def eta_seconds(job: TrainingJob) -> float | None:
    """Seconds that remain if the rest goes as fast as what is done; None before a twentieth of it is done."""
    if job.state != JobState.RUNNING or job.progress < 0.05 or not (job.started_at and job.advanced_at):
        return None
    spent: datetime = job.started_at
    return round((job.advanced_at - spent).total_seconds() * (1 - job.progress) / job.progress, 1)


async def _give_up(session: AsyncSession, exhausted: ColumnElement[bool], **values: Any) -> Sequence[TrainingJob]:
    """Who has used up the attempts has failed as `worker_lost`, and somebody should look why."""
    failed = await _move(session, JobState.RUNNING, JobState.FAILED, exhausted, error=LOST, **values)
    await _told(session, failed, "job.failed", before=JobState.RUNNING, evidence=LOST)
    for job in failed:
        await open_incident(
            session,
            severity="P2",
            title=f"Job {job.id} of {job.model} lost its worker {job.attempt} times.",
            actor=REFIT,
            model=job.model,
            job_id=job.id,
            evidence=LOST,
        )
    await open_after_repeated(session, failed)
    return failed


def _allowed(source: JobState, target: JobState) -> ColumnElement[str] | JobState:
    if target not in TRANSITIONS[source]:
        raise ValueError(f"a job never goes from {source} to {target}")
    return source


async def _told(session: AsyncSession, jobs: Sequence[TrainingJob], kind: str, **what: Any) -> bool:
    for job in jobs:
        await _tell(session, job, kind, **what)
    return bool(jobs)


async def _tell(session: AsyncSession, job: TrainingJob, kind: str, *, actor: str = REFIT, **what: Any) -> None:
    await record(session, kind=kind, actor=actor, model=job.model, job_id=job.id, after=job.state, **what)
