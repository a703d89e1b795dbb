from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.auth.requires import Operator, Viewer
from app.definitions.service import load
from app.http import Session
from app.incidents import service as incidents
from app.incidents.service import State
from app.schemas import FreeJson, Id, ModelName, Page, Reason, Strict

router = APIRouter(prefix="/incidents", tags=["incidents"])
Severity = Literal["P1", "P2", "P3", "P4"]


class OpenIncident(Strict):
    """`model` unset: it concerns every model. An open P1 blocks the training of the models that it concerns."""

    severity: Severity
    title: Reason
    model: ModelName | None = None
    evidence: FreeJson | None = None


class AcknowledgeIncident(Strict):
    note: Reason | None = None


class CloseIncident(Strict):
    note: Reason


class LinkView(BaseModel):
    kind: str = Field(description="job, version, watch, monitor or event")
    id: int | str
    href: str


class IncidentView(BaseModel):
    """`occurrences` counts how often its cause came up while it was open; `links` lead to the evidence."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    severity: str
    title: str
    model: str | None
    job_id: int | None
    evidence: dict[str, Any] | None
    links: list[LinkView]
    occurrences: int
    last_at: datetime
    opened_by: str
    opened_at: datetime
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    acknowledgement: str | None
    closed_by: str | None
    closed_at: datetime | None
    note: str | None


@router.get("")
async def list_incidents(
    session: Session,
    _: Viewer,
    state: State = "open",
    severity: Severity | None = None,
    model: ModelName | None = None,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> Page[IncidentView]:
    """Newest first. `open` are all that nobody has closed, whether or not somebody has taken them over."""
    rows = await incidents.list_incidents(
        session, state=state, severity=severity, model=model, after=after, limit=limit
    )
    if model is not None and not rows:
        await load(session, model)
    page = [IncidentView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


@router.get("/{id}")
async def show_incident(id: Id, session: Session, _: Viewer) -> IncidentView:
    """One incident with its evidence."""
    return IncidentView.model_validate(await incidents.get_incident(session, id))


@router.post("", status_code=201)
async def open_incident(body: OpenIncident, session: Session, operator: Operator) -> IncidentView:
    async with session.begin():
        if body.model is not None:
            await load(session, body.model)
        incident = await incidents.open_incident(session, **body.model_dump(), actor=str(operator))
    return IncidentView.model_validate(incident)


@router.post("/{id}/acknowledge")
async def acknowledge_incident(
    id: Id, session: Session, operator: Operator, body: AcknowledgeIncident | None = None
) -> IncidentView:
    """Whoever calls looks after it from now on; 409 where somebody does already."""
    note = body.note if body else None
    async with session.begin():
        incident = await incidents.acknowledge_incident(session, id, actor=str(operator), note=note)
    return IncidentView.model_validate(incident)


@router.post("/{id}/close")
async def close_incident(id: Id, body: CloseIncident, session: Session, operator: Operator) -> IncidentView:
    async with session.begin():
        incident = await incidents.close_incident(session, id, actor=str(operator), note=body.note)
    return IncidentView.model_validate(incident)
