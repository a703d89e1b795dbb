import hashlib
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.requires import Trainer, Viewer
from app.definitions.service import resolve_model
from app.http import Session
from app.schemas import Id, ModelName, Page
from app.training import service
from app.training.schemas import (
    CancelRequest,
    JobView,
    LogLine,
    MetricPoint,
    ModelTypeView,
    TriggerAnswer,
    TriggerRequest,
    WorkerView,
)
from app.training.state import CHANNEL
from app.training.stream import job_events
from app.training.tables import TrainingJob

router = APIRouter(prefix="/training", tags=["training"])
Limit = Annotated[int, Query(ge=1, le=1_000)]
After = Annotated[int, Query(ge=0, le=2**63 - 1)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]
Status = Literal["queued", "running", "completed", "failed", "cancelled"]


@router.post("/trigger", status_code=202)
async def trigger(
    body: TriggerRequest,
    request: Request,
    response: Response,
    session: Session,
    principal: Trainer,
    idempotency_key: IdempotencyKey = None,
) -> TriggerAnswer:
    """202 with `Location` for a new job; 200 when replayed or coalesced; 409 names every check that blocks."""
    async with session.begin():
        triggered = await service.trigger(
            session, request.app.state.settings, body, principal, idempotency_key=idempotency_key
        )
        warnings = await service.warnings(session, triggered.job)
    if triggered.outcome == "accepted":
        _ring(request, triggered.job)
    else:
        response.status_code = 200
    response.headers["Location"] = f"/training/jobs/{triggered.job.id}"
    job = JobView.of(triggered.job).model_dump()
    return TriggerAnswer.model_validate(job | {"outcome": triggered.outcome, "warnings": warnings})


@router.get("/status")
async def status(
    request: Request,
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    model_type: ModelName | None = None,
    job_id: Id | None = None,
    wait: Annotated[float, Query(ge=0, le=60)] = 0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The running or newest job of a model, or the one named.

    With `wait` it answers when the job has changed from `If-None-Match`, or has ended where none is given, or after so
    many seconds.
    """
    if job_id is None:
        named = (await resolve_model(session, model, model_type)).model
        job_id = (await service.latest_job(session, named)).id
    deadline = time.monotonic() + wait
    while True:
        job = await _read(session, job_id)
        body = job.model_dump_json().encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        left = deadline - time.monotonic()
        told_enough = etag != if_none_match if if_none_match else job.is_terminal
        if told_enough or left <= 0:
            break
        await request.app.state.news.wait(CHANNEL, min(left, 1.0))
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag == if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get("/types")
async def model_types(session: Session, _: Viewer) -> list[ModelTypeView]:
    """What the workers can train, with the JSON Schema of each type's parameters."""
    return [ModelTypeView.model_validate(row, from_attributes=True) for row in await service.model_types(session)]


@router.get("/workers")
async def list_workers(session: Session, _: Viewer) -> list[WorkerView]:
    """The workers that are alive."""
    return [WorkerView.model_validate(row, from_attributes=True) for row in await service.live_workers(session)]


@router.get("/jobs")
async def list_jobs(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    status: Status | None = None,
    after: After | None = None,
    limit: Limit = 50,
) -> Page[JobView]:
    """Newest first."""
    jobs = await service.list_jobs(session, model=model, status=status, after=after, limit=limit)
    page = [JobView.of(job) for job in jobs[:limit]]
    return Page(data=page, has_more=len(jobs) > limit, next=str(page[-1].job_id) if len(jobs) > limit else None)


@router.get("/jobs/{job_id}")
async def show_job(job_id: Id, session: Session, _: Viewer) -> JobView:
    return JobView.of(await service.get_job(session, job_id))


@router.get("/jobs/{job_id}/events")
async def stream_events(
    job_id: Id,
    request: Request,
    session: Session,
    _: Viewer,
    last_event_id: Annotated[int, Header(ge=0, le=2**63 - 1)] = 0,
) -> StreamingResponse:
    await service.get_job(session, job_id)
    await session.close()
    stream = job_events(request.app.state.sessions, request.app.state.news, job_id, last_event_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@router.get("/jobs/{job_id}/logs")
async def show_logs(job_id: Id, session: Session, _: Viewer, after: After = 0, limit: Limit = 500) -> Page[LogLine]:
    """Oldest first; `after` is the id of the last line that the caller has."""
    await service.get_job(session, job_id)
    rows = await service.logs(session, job_id, after, limit)
    page = [LogLine.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if page else None)


@router.get("/jobs/{job_id}/metrics")
async def show_metrics(
    job_id: Id, session: Session, _: Viewer, after: After = 0, limit: Limit = 500
) -> Page[MetricPoint]:
    """The curves of a job, point by point, oldest first."""
    await service.get_job(session, job_id)
    rows = await service.metrics(session, job_id, after, limit)
    page = [MetricPoint.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if page else None)


@router.post("/jobs/{job_id}/cancel", status_code=202)
async def cancel(job_id: Id, session: Session, principal: Trainer, body: CancelRequest | None = None) -> JobView:
    """`cancelling` until the job's processes are gone, then `cancelled`; its checkpoint is kept."""
    async with session.begin():
        job = await service.cancel(session, job_id, principal, body.reason if body else None)
    return JobView.of(job)


@router.post("/jobs/{job_id}/resume", status_code=202)
async def resume(job_id: Id, request: Request, response: Response, session: Session, principal: Trainer) -> JobView:
    """A new job that continues from the checkpoint of a failed or cancelled one."""
    async with session.begin():
        job = await service.resume(session, request.app.state.settings, job_id, principal)
    _ring(request, job)
    response.headers["Location"] = f"/training/jobs/{job.id}"
    return JobView.of(job)


async def _read(session: AsyncSession, job_id: int) -> JobView:
    """In a transaction of its own: a call that waits holds no connection and no snapshot meanwhile."""
    job = JobView.of(await service.get_job(session, job_id))
    await session.rollback()
    return job


def _ring(request: Request, job: TrainingJob) -> None:
    request.app.state.bell.ring_soon(job.id, job.queue, job.priority)
