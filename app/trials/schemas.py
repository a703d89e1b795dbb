"""What the trial calls take and answer."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas import Id, ModelName, Reason, Strict

LONGEST_MINUTES = 7 * 24 * 60


class StartCanary(Strict):
    """Standby answers the callers whose `X-Routing-Key` falls into `share`; who sends no key is answered by active."""

    model: ModelName | None = None
    share: float = Field(gt=0, le=0.5, description="of the callers")
    minutes: float = Field(30, gt=0, le=LONGEST_MINUTES)
    max_requests: Id | None = Field(None, description="that standby answers at most")
    reason: Reason


class StartShadow(Strict):
    """Standby is asked what active has answered, and both are compared. Nobody sees its answers."""

    model: ModelName | None = None
    share: float = Field(1.0, gt=0, le=1, description="of the requests")
    minutes: float = Field(30, gt=0, le=LONGEST_MINUTES)
    max_requests: Id | None = Field(None, description="that standby answers at most")
    reason: Reason


class StopTrial(Strict):
    model: ModelName | None = None
    reason: Reason


class TrialView(BaseModel):
    """`why` it ended. `requests` standby has answered. The rest is of a shadow: `rows` that were compared, `agreed`
    of them with the same label, `difference` the sum of |score - score|, `dropped` requests it was too late for."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    kind: Literal["canary", "shadow"]
    share: float
    active: int
    standby: int
    reason: str
    started_by: str
    started_at: datetime
    ends_at: datetime
    max_requests: int | None
    state: Literal["running", "ended"]
    ended_at: datetime | None
    ended_by: str | None
    why: str | None
    requests: int
    rows: int
    agreed: int
    difference: float
    dropped: int


class Estimate(BaseModel):
    """A figure with its interval; null where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class ArmView(BaseModel):
    """One version in the trial. Seconds; `labels` are shares of its rows.

    `accuracy`, `f1` and `acceptance` are by feedback. Of a shadow that is what was sent for active's answers, and both
    arms count only the rows that both have answered, of which a label came. A truth that standby's version has not
    counts as wrong for it; a label column that it has not gives no figures. Who accepts active's answer says nothing
    of the shadow's: it has no acceptance.
    """

    version: int
    slot: str
    requests: int
    rows: int
    errors: int
    invalid: int
    error_rate: Estimate
    labels: dict[str, float]
    mean_score: float | None
    latency_p50: float | None
    latency_p99: float | None
    accuracy: Estimate
    f1: Estimate
    acceptance: Estimate


class Compared(BaseModel):
    """Of a shadow: what both versions said of the same rows, whether or not their labels are known."""

    rows: int
    agreement: Estimate
    mean_score_difference: float | None
    dropped: int


class ReportView(BaseModel):
    """Both arms of a trial, whole minutes; `differences` are standby minus active, of a shadow row by row."""

    trial: TrialView
    since: datetime
    until: datetime
    confidence: float
    head: str | None
    active: ArmView
    standby: ArmView
    differences: dict[str, Estimate]
    compared: Compared | None
