"""What is told of answers and of learning, and what is answered to that."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.schemas import FreeJson, Id, ModelName, Strict

MOST_ITEMS = 10_000
MOST_POINTS = 1_000

Name = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]{1,200}$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
RequestId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LabelText = Annotated[str, StringConstraints(max_length=1_000, pattern=r"^[^\x00]*$")]
Moment = Annotated[datetime, Field(description="with a time zone; unset: now")]


class Item(Strict):
    """What was true of one row of one answer: its `label`, or whether it was `accepted`. One of both."""

    request_id: RequestId
    row: Annotated[int, Field(ge=0, lt=2**31)] = 0
    head: Name | None = Field(None, description="the label column; unset: the first")
    label: bool | Whole | float | LabelText | None = None
    accepted: bool | None = None

    @model_validator(mode="after")
    def says_one_thing(self) -> Self:
        if (self.label is None) == (self.accepted is None):
            raise ValueError("send either label or accepted")
        if self.accepted is not None and self.head is not None:
            raise ValueError("an answer is accepted or rejected as a whole, not one head of it")
        return self

    @property
    def kind(self) -> Literal["label", "accepted"]:
        return "label" if self.accepted is None else "accepted"

    @property
    def value(self) -> Any:
        return self.label if self.accepted is None else self.accepted

    @property
    def request(self) -> uuid.UUID:
        return uuid.UUID(self.request_id)


class FeedbackRequest(Strict):
    """All items are kept, or none. The same item again changes nothing; another label corrects the one before."""

    model: ModelName | None = None
    feedback: list[Item] = Field(min_length=1, max_length=MOST_ITEMS)


class FeedbackAccepted(BaseModel):
    """Of the `accepted` items `joined` were counted at once, `duplicate` ones changed nothing, `corrected` ones took
    the place of another value, and `pending` ones wait for their answer: a second, as a rule, and a day at most."""

    model: str
    accepted: int
    joined: int
    duplicate: int
    corrected: int
    pending: int


class FeedbackSummary(BaseModel):
    """Items by state, of those that came in the last `days` days. `unknown`: no answer with that id was found for a
    day. `invalid`: it was, and the item does not fit it."""

    model: str
    days: float
    pending: int
    joined: int
    unknown: int
    invalid: int


def _with_zone(at: datetime | None) -> datetime | None:
    if at is not None and at.tzinfo is None:
        raise ValueError("a time needs a time zone, such as 2026-11-21T03:00:00Z")
    return at


class LearningRequest(Strict):
    """One learning cycle. A `cycle` that was told before is replaced by nothing: the first word stays."""

    model: ModelName | None = None
    cycle: Annotated[int, Field(ge=0, le=2**63 - 1)] | Name | None = None
    accept_rate: Share | None = Field(None, description="unset: accepted / (accepted + rejected)")
    accepted: Count | None = None
    rejected: Count | None = None
    at: Moment | None = None
    metrics: FreeJson = Field(default_factory=dict)

    @model_validator(mode="after")
    def has_a_rate(self) -> Self:
        _with_zone(self.at)
        if self.accept_rate is None and not (self.accepted or 0) + (self.rejected or 0):
            raise ValueError("send accept_rate, or how many were accepted and rejected")
        return self

    @property
    def rate(self) -> float:
        if self.accept_rate is not None:
            return self.accept_rate
        accepted, rejected = self.accepted or 0, self.rejected or 0
        return accepted / (accepted + rejected)


class LearningAccepted(BaseModel):
    """`replayed`: it was known before, by its cycle or its Idempotency-Key, and nothing was added."""

    model: str
    id: int | None
    replayed: bool


class LearningView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    cycle: str | None
    accept_rate: float
    accepted: int | None
    rejected: int | None
    metrics: dict[str, Any]
    sender: str
    at: datetime


class Point(Strict):
    """One value of a metric that somebody measured. Known is what has the same name, version, source and `at`."""

    name: MetricName
    value: float
    version: Id | None = None
    n: Count | None = Field(None, description="of how many it is the mean")
    at: Moment | None = None
    source: Name = "api"

    @model_validator(mode="after")
    def has_a_zone(self) -> Self:
        _with_zone(self.at)
        return self


class PointsRequest(Strict):
    model: ModelName | None = None
    observations: list[Point] = Field(min_length=1, max_length=MOST_POINTS)


class PointsAccepted(BaseModel):
    model: str
    accepted: int
    duplicate: int


class PointView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    version: int | None
    name: str
    value: float
    n: int | None
    source: str
    at: datetime


class LoggedView(BaseModel):
    """A request as the version read it: at most its first hundred rows, and the answer to them."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    model: str
    version: int
    generation: int
    slot: str
    request_id: str
    rows: list[Any]
    answers: dict[str, Any]
