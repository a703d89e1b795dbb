from typing import Annotated

from fastapi import APIRouter, Query

from app.auth.requires import Operator, Viewer
from app.definitions.service import resolve_model
from app.errors import Invalid, told_name
from app.http import Session
from app.schemas import Id, ModelName, Page
from app.trials import service
from app.trials.report import report
from app.trials.schemas import ReportView, StartCanary, StartShadow, StopTrial, TrialView

router = APIRouter(prefix="/model", tags=["canary and shadow"])
Limit = Annotated[int, Query(ge=1, le=1_000)]
Head = Annotated[
    str | None, Query(max_length=200, pattern=r"^[^\x00]+$", description="a label column; unset: the first")
]


@router.post("/canary", status_code=201)
async def start_canary(body: StartCanary, session: Session, operator: Operator) -> TrialView:
    """Standby answers a share of the callers of `/predict/batch`, by their `X-Routing-Key`, within limits."""
    return await _start(session, body, str(operator))


@router.post("/shadow", status_code=201)
async def start_shadow(body: StartShadow, session: Session, operator: Operator) -> TrialView:
    """Standby is asked the same as active, after each answer was sent; nobody sees what it says but the report. Labels
    that are sent for active's answers tell of it too."""
    return await _start(session, body, str(operator))


@router.post("/canary/stop")
async def stop_canary(body: StopTrial, session: Session, operator: Operator) -> TrialView:
    """Ends the canary that runs."""
    return await _stop(session, body, "canary", str(operator))


@router.post("/shadow/stop")
async def stop_shadow(body: StopTrial, session: Session, operator: Operator) -> TrialView:
    """Ends the shadow that runs."""
    return await _stop(session, body, "shadow", str(operator))


@router.get("/trial")
async def show_trial(
    session: Session, _: Viewer, model: ModelName | None = None, id: Id | None = None, head: Head = None
) -> ReportView:
    """Both arms of the running trial, else of the last one, or of that id, with 95 % intervals."""
    applied = await resolve_model(session, model)
    known = applied.definition.data.label_columns
    if head is not None and head not in known:
        columns = ", ".join(map(told_name, known))
        raise Invalid(f"`head` is no label column of {applied.model}; there is {columns}.", code="unknown_head")
    return await report(session, await service.get(session, applied.model, id), head)


@router.get("/trials")
async def list_trials(
    session: Session, _: Viewer, model: ModelName | None = None, after: Id | None = None, limit: Limit = 50
) -> Page[TrialView]:
    """Newest first."""
    named = (await resolve_model(session, model)).model
    rows = await service.list_trials(session, named, after=after, limit=limit)
    page = [TrialView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


async def _start(session: Session, body: StartCanary | StartShadow, actor: str) -> TrialView:
    async with session.begin():
        model = (await resolve_model(session, body.model)).model
        return TrialView.model_validate(await service.start(session, model, body, actor=actor))


async def _stop(session: Session, body: StopTrial, kind: str, actor: str) -> TrialView:
    async with session.begin():
        model = (await resolve_model(session, body.model)).model
        return TrialView.model_validate(await service.stop(session, model, kind, actor=actor, reason=body.reason))
