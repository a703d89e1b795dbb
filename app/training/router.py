import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import recall
from app.auth.requires import Trainer, Viewer
from app.auth.roles import Principal
from app.definitions.service import resolve_model
from app.errors import Refused
from app.events.refusals import record_refusal
from app.http import IfNoneMatch, Session
from app.news import News
from app.recall import Told
from app.schemas import Id, ModelName, Page
from app.training import admission, service
from app.training.schemas import (
    CancelRequest,
    JobView,
    LogLine,
    MetricPoint,
    ModelTypeView,
    PrerequisitesView,
    TriggerAnswer,
    TriggerRequest,
    WorkerView,
)
from app.training.state import CHANNEL
from app.training.stream import job_events
from app.training.tables import TrainingJob

EVENTS = {"content": {"text/event-stream": {"schema": {"type": "object", "description": "server-sent events"}}}}


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


router = APIRouter(prefix="/training", tags=["training"])
Limit = Annotated[int, Query(ge=1, le=1_000)]
After = Annotated[int, Query(ge=0, le=2**63 - 1)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]
Status = Literal["queued", "running", "completed", "failed", "cancelled"]


REPLAYED = {"model": TriggerAnswer, "description": "The job that this trigger was coalesced with, or had made before"}


@router.post("/trigger", status_code=202, responses={200: REPLAYED})
async def trigger(
    body: TriggerRequest,
    request: Request,
    response: Response,
    session: Session,
    principal: Trainer,
    idempotency_key: IdempotencyKey = None,
) -> TriggerAnswer:
    """202 with `Location` for a new job; 200 when replayed or coalesced; 409 names every check that blocks."""
    try:
        async with session.begin():
            triggered = await service.trigger(
                session, request.app.state.settings, body, principal, idempotency_key=idempotency_key
            )
            warnings = await service.warnings(session, triggered.job)
    except Refused as refusal:
        await _record(session, refusal, body, principal)
        raise
    if triggered.outcome == "accepted":
        _ring(request, triggered.job)
    else:
        response.status_code = 200
    response.headers["Location"] = f"/training/jobs/{triggered.job.id}"
    job = JobView.of(triggered.job, principal).model_dump()
    return TriggerAnswer.model_validate(job | {"outcome": triggered.outcome, "warnings": warnings})


@router.get("/status", response_model=JobView)
async def status(
    request: Request,
    reader: Viewer,
    model: ModelName | None = None,
    model_type: ModelName | None = None,
    job_id: Id | None = None,
    wait: Annotated[float, Query(ge=0, le=60)] = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The running or newest job of a model, or the one named. Polls with `If-None-Match` are answered from memory.

    With `wait` it answers when the job has changed from `If-None-Match`, or has ended where none is given, or after so
    many seconds.
    """
    memory, news = request.app.state.memory, request.app.state.news
    read = partial(_read, request.app.state.sessions, reader, model, model_type, job_id)
    if wait:
        told = await _wait(news, read, if_none_match, wait)
    else:
        told = await (memory.recall(recall.key_of(request.scope, reader), read) if if_none_match else read())
    return recall.response(told, if_none_match)


@router.get("/prerequisites")
async def show_prerequisites(
    request: Request, session: Session, reader: Viewer, model: ModelName | None = None
) -> PrerequisitesView:
    """Every check that a trigger would meet now, each with its figure, before anybody triggers."""
    applied = await resolve_model(session, model)
    found = await admission.prospect(session, request.app.state.settings, applied, reader)
    return PrerequisitesView.model_validate(found)


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
    reader: Viewer,
    model: ModelName | None = None,
    status: Status | None = None,
    after: After | None = None,
    limit: Limit = 50,
) -> Page[JobView]:
    """Newest first."""
    jobs = await service.list_jobs(session, model=model, status=status, after=after, limit=limit)
    page = [JobView.of(job, reader) for job in jobs[:limit]]
    return Page(data=page, has_more=len(jobs) > limit, next=str(page[-1].job_id) if len(jobs) > limit else None)


@router.get("/jobs/{job_id}")
async def show_job(job_id: Id, session: Session, reader: Viewer) -> JobView:
    return JobView.of(await service.get_job(session, job_id), reader)


@router.get("/jobs/{job_id}/events", response_class=EventStream, responses={200: EVENTS})
async def stream_events(
    job_id: Id,
    request: Request,
    session: Session,
    reader: Viewer,
    last_event_id: Annotated[int, Header(ge=0, le=2**63 - 1)] = 0,
) -> StreamingResponse:
    await service.get_job(session, job_id)
    await session.close()
    stream = job_events(request.app.state.sessions, request.app.state.news, reader, job_id, last_event_id)
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
    return JobView.of(job, principal)


@router.post("/jobs/{job_id}/resume", status_code=202)
async def resume(job_id: Id, request: Request, response: Response, session: Session, principal: Trainer) -> JobView:
    """A new job that continues from the checkpoint of a failed or cancelled one."""
    async with session.begin():
        job = await service.resume(session, request.app.state.settings, job_id, principal)
    _ring(request, job)
    response.headers["Location"] = f"/training/jobs/{job.id}"
    return JobView.of(job, principal)


async def _read(
    sessions: async_sessionmaker[AsyncSession],
    reader: Principal,
    model: str | None,
    model_type: str | None,
    job_id: int | None,
) -> Told:
    """In a transaction of its own: a call that waits holds no connection and no snapshot meanwhile."""
    async with sessions() as session:
        if job_id is None:
            named = (await resolve_model(session, model, model_type)).model
            job = await service.latest_job(session, named)
        else:
            job = await service.get_job(session, job_id)
        return Told.of(JobView.of(job, reader), (CHANNEL, job.model))


def _ended(told: Told) -> bool:
    return isinstance(told.view, JobView) and told.view.is_terminal


async def _wait(news: News, read: Callable[[], Awaitable[Told]], known: str | None, longest: float) -> Told:
    """The job once it differs from what is known, or has ended where nothing is, or at the end of the wait."""
    deadline = time.monotonic() + longest
    while True:
        heard = news.count
        told = await read()
        told_enough = not told.is_known_by(known) if known else _ended(told)
        left = deadline - time.monotonic()
        if told_enough or left <= 0:
            return told
        await news.wait(CHANNEL, min(left, 1.0), since=heard)


async def _record(session: AsyncSession, refusal: Refused, body: TriggerRequest, principal: Principal) -> None:
    """Of the same refusals of a caller the record has one an hour: it is bounded, however often somebody asks."""
    async with session.begin():
        model = (await resolve_model(session, body.model, body.model_type)).model
        await record_refusal(session, refusal, kind="trigger.refused", actor=str(principal), model=model)


def _ring(request: Request, job: TrainingJob) -> None:
    request.app.state.bell.ring_soon(job.id, job.queue, job.priority)
