from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.auth.requires import Trainer, Viewer
from app.definitions.service import Applied, list_models, load
from app.http import Session
from app.monitoring import checks
from app.monitoring.schemas import CheckAnswer, CheckedView, CheckRequest, MonitorCheckView, MonitorView
from app.schemas import Id, ModelName, Page

router = APIRouter(prefix="/monitoring", tags=["monitoring"])


@router.post("/check")
async def check(request: Request, session: Session, _: Trainer, body: CheckRequest | None = None) -> CheckAnswer:
    """Runs the monitors of a model, or of every model, now: what each found, on which numbers, and what came of it."""
    body = body or CheckRequest()
    found, jobs = [], []
    async with session.begin():
        for applied in await _models(session, body.model):
            made = await checks.check(session, request.app.state.settings, applied, trigger=body.trigger)
            found += made[0]
            jobs += made[1]
    for job in jobs:
        request.app.state.bell.ring_soon(job.id, job.queue, job.priority)
    return CheckAnswer(checks=[CheckedView.of(each) for each in found], jobs=[job.id for job in jobs])


@router.get("/monitors")
async def list_monitors(session: Session, _: Viewer, model: ModelName | None = None) -> list[MonitorView]:
    """What every monitor says now, since when, and when it looks again."""
    return [MonitorView.model_validate(row) for row in await checks.list_monitors(session, model)]


@router.get("/checks")
async def list_checks(
    session: Session,
    _: Viewer,
    model: ModelName,
    monitor: ModelName | None = None,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[MonitorCheckView]:
    """Every look of a model's monitors, newest first: what was decided, on which numbers."""
    await load(session, model)
    rows = await checks.list_checks(session, model, monitor, after=after, limit=limit)
    page = [MonitorCheckView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


async def _models(session: Session, model: str | None) -> Sequence[Applied]:
    names = [model] if model else [row.name for row in await list_models(session)]
    return [await load(session, name) for name in names]
