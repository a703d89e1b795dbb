from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from app.auth.requires import Operator, Viewer
from app.definitions.service import load
from app.http import Session
from app.monitoring import incidents
from app.schemas import FreeJson, Id, ModelName, Reason, Strict

router = APIRouter(prefix="/incidents", tags=["incidents"])


class OpenIncident(Strict):
    """`model` unset: it concerns every model. An open P1 blocks the training of the models that it concerns."""

    severity: Literal["P1", "P2", "P3", "P4"]
    title: Reason
    model: ModelName | None = None
    evidence: FreeJson | None = None


class CloseIncident(Strict):
    note: Reason


class IncidentView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    severity: str
    title: str
    model: str | None
    job_id: int | None
    evidence: dict[str, Any] | None
    opened_by: str
    opened_at: datetime
    closed_by: str | None
    closed_at: datetime | None
    note: str | None


@router.get("")
async def list_incidents(
    session: Session, _: Viewer, open: bool = True, model: ModelName | None = None
) -> list[IncidentView]:
    rows = await incidents.list_incidents(session, only_open=open, model=model)
    return [IncidentView.model_validate(row) for row in rows]


@router.post("", status_code=201)
async def open_incident(body: OpenIncident, session: Session, operator: Operator) -> IncidentView:
    async with session.begin():
        if body.model is not None:
            await load(session, body.model)
        incident = await incidents.open_incident(session, **body.model_dump(), actor=str(operator))
    return IncidentView.model_validate(incident)


@router.post("/{id}/close")
async def close_incident(id: Id, body: CloseIncident, session: Session, operator: Operator) -> IncidentView:
    async with session.begin():
        incident = await incidents.close_incident(session, id, actor=str(operator), note=body.note)
    return IncidentView.model_validate(incident)
