from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.requires import Trainer, Viewer
from app.definitions.schemas import MonitorName
from app.definitions.service import Applied, list_models, load
from app.errors import NotFound
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
    rows = await checks.list_monitors(session, model)
    if model is not None and not rows:
        await load(session, model)
    return [MonitorView.model_validate(row) for row in rows]


@router.get("/checks")
async def list_checks(
    session: Session,
    _: Viewer,
    model: ModelName,
    monitor: MonitorName | None = None,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[MonitorCheckView]:
    """Every look of a model's monitors, newest first: what was decided, on which numbers."""
    applied = await load(session, model)
    if monitor is not None:
        await _require_monitor(session, applied, monitor)
    rows = await checks.list_checks(session, model, monitor, after=after, limit=limit)
    page = [MonitorCheckView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


async def _require_monitor(session: AsyncSession, applied: Applied, name: str) -> None:
    """Raises NotFound. One that the definition no longer has is known by what it found."""
    watched = applied.definition.watched
    if name in watched or await checks.list_checks(session, applied.model, name, after=None, limit=1):
        return
    remedy = f"It has {', '.join(watched)}." if watched else "Its definition has none."
    raise NotFound(f"{applied.model} has no monitor of this name.", code="monitor_not_found", remedy=remedy)


async def _models(session: Session, model: str | None) -> Sequence[Applied]:
    names = [model] if model else [row.name for row in await list_models(session)]
    return [await load(session, name) for name in names]
