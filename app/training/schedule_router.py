from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from app.auth.requires import Viewer
from app.db import clock
from app.definitions.service import load
from app.http import Session
from app.schemas import ModelName
from app.training import schedule

router = APIRouter(prefix="/schedule", tags=["training"])


class FireView(BaseModel):
    """What came of one time: a new job (`fired`), one that was open (`coalesced`), `refused`, or `missed`."""

    model_config = ConfigDict(from_attributes=True)

    due_at: datetime
    fired_at: datetime
    outcome: str
    reason: str | None
    job_id: int | None


class ScheduleView(BaseModel):
    """Times are UTC, by the database's clock."""

    model: str
    schedule: str = Field(description="cron, five fields")
    missed: str = Field(description="what happens to a time that nobody ticked for")
    missed_minutes: float
    next: list[datetime]
    last: FireView | None


@router.get("")
async def list_schedules(session: Session, _: Viewer, model: ModelName | None = None) -> list[ScheduleView]:
    """Every model with a schedule: its next three times, and what came of the last one."""
    if model is not None:
        await load(session, model)
    now = (await session.scalars(select(clock()))).one()
    found = await schedule.list_scheduled(session, model)
    last = await schedule.last_fired(session, [scheduled.model for scheduled in found])
    return [
        ScheduleView(
            model=scheduled.model,
            schedule=str(scheduled.triggers.schedule),
            missed=scheduled.triggers.missed,
            missed_minutes=scheduled.triggers.missed_minutes,
            next=schedule.next_due(str(scheduled.triggers.schedule), now),
            last=FireView.model_validate(last[scheduled.model]) if scheduled.model in last else None,
        )
        for scheduled in found
    ]
