"""Triggers and everything that callers ask of jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.db import clock, notify, seconds
from app.definitions.service import Applied, check_training, resolve_model
from app.definitions.tables import ModelType
from app.errors import Forbidden, Invalid, NotFound, Refused
from app.events.record import record
from app.settings import Settings
from app.training import confirmation, state
from app.training.admission import admit, open_jobs, refusal
from app.training.checks import a_worker_for
from app.training.equality import digest_of
from app.training.schemas import TriggerRequest
from app.training.stages import are_of_data
from app.training.state import CHANNEL, JobState
from app.training.tables import MANUAL, IdempotencyKey, JobLog, JobMetric, TrainingJob, Worker
from app.training.wanted import Wanted, wanted_by

Outcome = Literal["accepted", "replayed", "coalesced"]


@dataclass(frozen=True)
class Triggered:
    outcome: Outcome
    job: TrainingJob


async def trigger(
    session: AsyncSession,
    settings: Settings,
    request: TriggerRequest,
    principal: Principal,
    *,
    idempotency_key: str | None = None,
    trigger: str = MANUAL,
    because: Mapping[str, Any] | None = None,
) -> Triggered:
    """Accepts, replays or coalesces; raises Refused with every blocking check, Invalid or NotFound.

    `because` are the numbers of whatever triggers by itself; they stay with the job. The model's row is locked first,
    so that of a thousand equal triggers one makes the job and the rest find it.
    """
    if request.force and not principal.may(Role.OPERATOR):
        raise Forbidden("force needs the role operator.", remedy="Ask an operator, or leave force out.")
    applied = await resolve_model(session, request.model, request.model_type, lock=True)
    body_digest = digest_of(request.model_dump(mode="json"))
    if idempotency_key is not None:
        first = await _first_answer(session, principal, idempotency_key, body_digest)
        if first is not None:
            return Triggered("replayed", first)
    definition = applied.definition
    strategy = request.strategy or definition.strategy
    model_type = await check_training(session, definition, definition.training | request.params, strategy)
    wanted = await wanted_by(session, settings, request, applied, model_type)
    already = await open_jobs(session, applied.model)
    equality = wanted.columns["equality"]
    equal = [job for job in already if job.equality == equality and job.cancel_requested_at is None]
    outcome: Outcome = "coalesced"
    job = equal[0] if equal else None
    if job is not None and request.confirm is not None and wanted.dry_run is None:
        raise refusal(applied.model, [confirmation.unknown(applied, wanted.columns, request.confirm)])
    if job is None:
        columns = await _admitted(session, settings, request, applied, model_type, wanted, already, trigger)
        outcome, job = "accepted", await _create(session, columns | {"because": because}, principal, trigger)
    if idempotency_key is not None:
        await _remember(session, principal, idempotency_key, body_digest, job)
    return Triggered(outcome, job)


async def _admitted(
    session: AsyncSession,
    settings: Settings,
    request: TriggerRequest,
    applied: Applied,
    model_type: ModelType,
    wanted: Wanted,
    already: Sequence[TrainingJob],
    trigger: str,
) -> dict[str, Any]:
    """The columns of the job, with what it confirms and what force passed over. Raises Refused."""
    asked = await confirmation.checks(
        session,
        applied,
        model_type,
        wanted.columns | {"from_job": request.from_job},
        token=request.confirm,
        dry_run=wanted.dry_run,
        left=wanted.left,
        trigger=trigger,
    )
    overridden = await admit(
        session,
        settings,
        applied,
        already,
        trigger=trigger,
        forced=request.force,
        trains=request.trains,
        works=wanted.works,
        more=asked,
    )
    confirmed = wanted.dry_run if all(check.passed for check in asked) else None
    return wanted.columns | {"overridden": overridden or None, "confirms": confirmed.id if confirmed else None}


async def resume(session: AsyncSession, settings: Settings, job_id: int, principal: Principal) -> TrainingJob:
    """A new job that asks for what the ended one asked for, on the same data, and continues from its checkpoint.

    Who asks while such a job is open gets that one. Raises Refused unless the job has failed or was cancelled.
    """
    old = await get_job(session, job_id)
    if old.state not in (JobState.FAILED, JobState.CANCELLED):
        raise Refused(
            f"Job {job_id} is {old.state}; only a failed or cancelled job can be resumed.",
            code="not_resumable",
        )
    applied = await resolve_model(session, old.model, lock=True)
    already = await open_jobs(session, old.model)
    for job in already:
        if job.checkpoint_of == (old.checkpoint_of or old.id) and job.cancel_requested_at is None:
            return job
    # Its prerequisites were met when it was triggered: only what concerns this moment is asked again.
    works = not (old.dry_run or are_of_data(old.stages))
    await admit(session, settings, applied, already, trigger=MANUAL, forced=True, trains=False, works=works)
    same = (
        "model", "model_type", "definition_revision", "params", "strategy", "base", "equality", "dry_run", "stages",
        "preference_digest", "labelling", "queue", "priority", "note", "forced", "overridden", "min_new_samples",
        "max_attempts", "memory_scale", "confirms",
    )  # fmt: skip
    values = {name: getattr(old, name) for name in same} | {
        "data_version": old.data_digest or old.data_version,
        "checkpoint_of": old.checkpoint_of or old.id,
        "max_attempts": settings.job_max_attempts,
        "reason": f"resumes job {old.id}",
    }
    return await _create(session, values, principal, MANUAL)


async def get_job(session: AsyncSession, job_id: int) -> TrainingJob:
    job = await session.get(TrainingJob, job_id, populate_existing=True)
    if job is None:
        raise NotFound(f"No job has the id {job_id}.", code="job_not_found", remedy="`refit jobs list` names them.")
    return job


async def latest_job(session: AsyncSession, model: str) -> TrainingJob:
    """The running job of a model, else its newest one. Raises NotFound where it never had one."""
    query = select(TrainingJob).where(TrainingJob.model == model)
    newest_first = query.order_by((TrainingJob.state == JobState.RUNNING).desc(), TrainingJob.id.desc()).limit(1)
    job = await session.scalar(newest_first)
    if job is None:
        raise NotFound(f"Model {model} was never trained.", code="no_job", remedy=f"Trigger it: refit trigger {model}.")
    return job


async def list_jobs(
    session: AsyncSession, *, model: str | None, status: str | None, after: int | None, limit: int
) -> Sequence[TrainingJob]:
    """Newest first, from below the id `after`; one more than `limit`, so that the caller sees whether there is more."""
    query = select(TrainingJob).order_by(TrainingJob.id.desc()).limit(limit + 1)
    if model is not None:
        query = query.where(TrainingJob.model == model)
    if status is not None:
        query = query.where(TrainingJob.state == status)
    if after is not None:
        query = query.where(TrainingJob.id < after)
    return (await session.scalars(query)).all()


async def cancel(session: AsyncSession, job_id: int, principal: Principal, reason: str | None) -> TrainingJob:
    """Cancelling what is cancelled changes nothing. Raises Refused where the job has ended otherwise."""
    job = await state.request_cancel(session, job_id, actor=str(principal), reason=reason)
    if job is not None:
        return job
    ended = await get_job(session, job_id)
    if ended.state != JobState.CANCELLED:
        raise Refused(f"Job {job_id} is {ended.state} already.", code="job_ended")
    return ended


async def logs(session: AsyncSession, job_id: int, after: int, limit: int) -> Sequence[JobLog]:
    query = select(JobLog).where(JobLog.job_id == job_id, JobLog.id > after).order_by(JobLog.id).limit(limit + 1)
    return (await session.scalars(query)).all()


async def metrics(session: AsyncSession, job_id: int, after: int, limit: int) -> Sequence[JobMetric]:
    query = (
        select(JobMetric)
        .where(JobMetric.job_id == job_id, JobMetric.id > after)
        .order_by(JobMetric.id)
        .limit(limit + 1)
    )
    return (await session.scalars(query)).all()


async def model_types(session: AsyncSession) -> Sequence[ModelType]:
    return (await session.scalars(select(ModelType).order_by(ModelType.name))).all()


async def live_workers(session: AsyncSession) -> Sequence[Worker]:
    query = select(Worker).where(Worker.lease_until > clock()).order_by(Worker.started_at)
    return (await session.scalars(query)).all()


async def warnings(session: AsyncSession, job: TrainingJob) -> list[str]:
    """What the caller should know although the job was accepted."""
    if job.state != JobState.QUEUED or any(job.queue in worker.queues for worker in await live_workers(session)):
        return []
    return [f"No live worker serves the queue {job.queue}: the job waits until one comes. {a_worker_for(job.queue)}"]


async def _first_answer(session: AsyncSession, principal: Principal, key: str, body_digest: str) -> TrainingJob | None:
    seen = await session.get(IdempotencyKey, (principal.id, key))
    if seen is None:
        return None
    if seen.body_sha256 != body_digest:
        raise Invalid(
            "This Idempotency-Key was used with another body.",
            code="idempotency_key_reused",
            remedy="Send a new key, or the body of the first time.",
            job_id=seen.job_id,
        )
    return await get_job(session, seen.job_id)


async def _remember(session: AsyncSession, principal: Principal, key: str, body_digest: str, job: TrainingJob) -> None:
    values = {"principal": principal.id, "key": key, "body_sha256": body_digest, "job_id": job.id}
    kept = upsert(IdempotencyKey).values(values).on_conflict_do_nothing().returning(IdempotencyKey.key)
    if (await session.execute(kept)).first() is None:
        # The same key came at the same moment for another model, and was first.
        await _first_answer(session, principal, key, body_digest)


async def _create(session: AsyncSession, values: Mapping[str, Any], principal: Principal, trigger: str) -> TrainingJob:
    actor = str(principal)
    # The caller rings after its commit; should it die before that, the sweep rings two seconds later.
    told = {"actor": actor, "trigger": trigger, "ring_at": clock() + seconds(2)}
    job = (await session.scalars(insert(TrainingJob).values(**values, **told).returning(TrainingJob))).one()
    evidence = {
        "trigger": trigger,
        "forced": job.forced,
        "data_version": job.data_version,
        "strategy": job.strategy,
        "dry_run": job.dry_run,
        "stages": job.stages,
        "goes_on_from": job.checkpoint_of,
        "confirms": job.confirms,
        "overridden": job.overridden,
    }
    await record(
        session,
        kind="job.accepted",
        actor=actor,
        model=job.model,
        job_id=job.id,
        after=job.state,
        reason=job.reason,
        evidence=evidence,
    )
    await notify(session, CHANNEL, job.model)
    return job
