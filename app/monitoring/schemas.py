"""What `/monitoring/…` reads and answers."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from app.monitoring.checks import Checked
from app.schemas import ModelName, Strict

MonitorState = Literal["ok", "pending", "breached", "unknown"]


class CheckRequest(Strict):
    """Which model's monitors run now; unset: every model's. `trigger: false` only looks."""

    model: ModelName | None = None
    trigger: StrictBool = True


class CheckedView(BaseModel):
    """What one monitor found. `outcome` of a breach: accepted, coalesced, or the code by which a job was refused."""

    model: str
    monitor: str
    kind: str
    state: MonitorState
    reason: str
    numbers: dict[str, Any]
    outcome: str | None
    job_id: int | None

    @classmethod
    def of(cls, checked: Checked) -> "CheckedView":
        return cls(
            model=checked.model,
            monitor=checked.name,
            kind=checked.kind,
            state=checked.finding.state.value,
            reason=checked.finding.reason,
            numbers=checked.numbers,
            outcome=checked.outcome,
            job_id=checked.job_id,
        )


class CheckAnswer(BaseModel):
    """What all monitors found, and the jobs that were triggered: one a model at most."""

    checks: list[CheckedView]
    jobs: list[int]


class MonitorView(BaseModel):
    """What a monitor says now, since when, and when it looks again."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    name: str
    kind: str
    state: MonitorState
    since: datetime
    version: int | None = Field(description="that was active")
    reason: str
    numbers: dict[str, Any]
    checked_at: datetime
    due_at: datetime
    outcome: str | None
    job_id: int | None


class MonitorCheckView(BaseModel):
    """One look: what was decided, on which numbers."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    name: str
    at: datetime
    version: int | None
    state: MonitorState
    reason: str
    numbers: dict[str, Any]
    outcome: str | None
    job_id: int | None
