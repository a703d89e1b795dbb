from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict
from sqlalchemy import select

from app.auth.requires import Viewer
from app.definitions.service import load
from app.events.record import of_a_thing
from app.events.tables import Event
from app.http import Session
from app.schemas import Id, ModelName, Page

router = APIRouter(prefix="/events", tags=["events"])
Kind = Annotated[str, Query(pattern=r"^[a-z_]{1,60}\.[a-z_]{1,60}$"), AfterValidator(of_a_thing)]


class EventView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    kind: str
    actor: str
    model: str | None
    job_id: int | None
    version: int | None
    before: str | None
    after: str | None
    reason: str | None
    evidence: dict[str, Any] | None


@router.get("")
async def list_events(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    job_id: Id | None = None,
    kind: Kind | None = None,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> Page[EventView]:
    """The record, newest first: who or what, when, from → to, why, on which evidence."""
    query = select(Event).order_by(Event.id.desc()).limit(limit + 1)
    wanted = ((Event.model, model), (Event.job_id, job_id), (Event.kind, kind))
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        query = query.where(Event.id < after)
    rows = (await session.scalars(query)).all()
    if model is not None and not rows:
        await load(session, model)
    page = [EventView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)
