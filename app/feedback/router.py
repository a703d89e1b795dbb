from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel

from app.auth.requires import Reporter, Trainer, Viewer
from app.definitions.service import resolve_model
from app.feedback import learning, service
from app.feedback.log import list_log
from app.feedback.schemas import (
    FeedbackAccepted,
    FeedbackRequest,
    FeedbackSummary,
    LearningAccepted,
    LearningRequest,
    LearningView,
    LoggedView,
    MetricName,
    PointsAccepted,
    PointsRequest,
    PointView,
)
from app.feedback.tables import PredictionLog
from app.http import Session
from app.schemas import Id, ModelName, Page

router = APIRouter(tags=["feedback and metrics"])
Limit = Annotated[int, Query(ge=1, le=1_000)]
Days = Annotated[float, Query(gt=0, le=366)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200, description="the same again adds nothing")]
View = TypeVar("View", bound=BaseModel)


@router.post("/feedback", status_code=202)
async def post_feedback(body: FeedbackRequest, session: Session, reporter: Reporter) -> FeedbackAccepted:
    """What was true of answers, by request id and row: early, late, in any order, twice. All are kept, or none."""
    async with session.begin():
        applied = await resolve_model(session, body.model)
        return await service.post(session, applied, body.feedback, sender=str(reporter))


@router.get("/feedback")
async def show_feedback(session: Session, _: Viewer, model: ModelName | None = None, days: Days = 1) -> FeedbackSummary:
    """How many items came, by what became of them."""
    named = (await resolve_model(session, model)).model
    found = dict.fromkeys(("pending", "joined", "unknown", "invalid"), 0)
    return FeedbackSummary(model=named, days=days, **found | await service.states(session, named, days))


@router.post("/metrics/learning", status_code=202)
async def post_learning(
    body: LearningRequest, session: Session, reporter: Reporter, idempotency_key: IdempotencyKey = None
) -> LearningAccepted:
    """What one learning cycle came to. A cycle, or an Idempotency-Key, that is known adds nothing; told otherwise than
    before it is refused."""
    async with session.begin():
        model = (await resolve_model(session, body.model)).model
        id, replayed = await learning.post_learning(session, model, body, reporter, idempotency_key)
    return LearningAccepted(model=model, id=id, replayed=replayed)


@router.get("/metrics/learning")
async def list_learning(
    session: Session, _: Viewer, model: ModelName | None = None, after: Id | None = None, limit: Limit = 50
) -> Page[LearningView]:
    """The learning cycles, newest first."""
    named = (await resolve_model(session, model)).model
    rows = await learning.list_learning(session, named, after=after, limit=limit)
    return _page([LearningView.model_validate(row) for row in rows[:limit]], more=len(rows) > limit)


@router.post("/metrics/observations", status_code=202)
async def post_observations(
    body: PointsRequest, session: Session, reporter: Reporter, idempotency_key: IdempotencyKey = None
) -> PointsAccepted:
    """Values of metrics of any name. What has the name, version, source, `at` and value of a known one adds nothing;
    with another value it is refused."""
    async with session.begin():
        model = (await resolve_model(session, body.model)).model
        new = await learning.post_points(session, model, body.observations, reporter, idempotency_key)
    return PointsAccepted(model=model, accepted=len(body.observations), duplicate=len(body.observations) - new)


@router.get("/metrics/observations")
async def list_observations(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    name: Annotated[MetricName | None, Query()] = None,
    version: Id | None = None,
    after: Id | None = None,
    limit: Limit = 50,
) -> Page[PointView]:
    """The values that came, newest first."""
    named = (await resolve_model(session, model)).model
    rows = await learning.list_points(session, named, name=name, version=version, after=after, limit=limit)
    return _page([PointView.model_validate(row) for row in rows[:limit]], more=len(rows) > limit)


@router.get("/predictions/log")
async def show_log(
    session: Session, _: Trainer, model: ModelName | None = None, after: Id | None = None, limit: Limit = 50
) -> Page[LoggedView]:
    """Requests that were kept as they came, newest first: the share that the definition's `logging` asks for."""
    named = (await resolve_model(session, model)).model
    rows = await list_log(session, named, after=after, limit=limit)
    return _page([_logged(row) for row in rows[:limit]], more=len(rows) > limit)


def _logged(row: PredictionLog) -> LoggedView:
    names = [name for name in LoggedView.model_fields if name != "request_id"]
    return LoggedView(**{name: getattr(row, name) for name in names}, request_id=row.request.hex)


def _page(rows: list[View], *, more: bool) -> Page[View]:
    return Page(data=rows, has_more=more, next=str(rows[-1].id) if more else None)  # type: ignore[attr-defined]  # every view here has one
