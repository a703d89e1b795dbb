"""What is told of answers and of learning, and what is answered to that."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from app.schemas import FreeJson, Id, ModelName, Strict, Time

MOST_ITEMS = 10_000
MOST_POINTS = 1_000
# Who sends a rate beside the counts may have rounded it.
ROUNDED = 0.01

Name = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]{1,200}$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
RequestId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
# So large that nobody means it, and so small that the mean of thousands is still a number.
Value = Annotated[float, Field(ge=-1e100, le=1e100, strict=True)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LabelText = Annotated[str, StringConstraints(max_length=1_000, pattern=r"^[^\x00]*$")]
# So far ahead the clock of whoever measured may be.
AHEAD = timedelta(days=1)


def _has_come(at: datetime) -> datetime:
    """A time ahead would be the newest of all for as long as it is; one beyond the calendar cannot be read again."""
    if at.tzinfo is None:
        raise ValueError("a time needs a time zone, such as 2026-11-21T03:00:00Z")
    if not 0 <= at.timestamp() <= (datetime.now(UTC) + AHEAD).timestamp():
        raise ValueError("neither a time before 1970 nor one that is yet to come")
    return at


Moment = Annotated[Time, AfterValidator(_has_come), Field(description="with a time zone; unset: now")]


def _plainly(what: str) -> WrapValidator:
    """One sentence in place of one for each type that it might have been."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(what) from None

    return WrapValidator(check)


Label = Annotated[
    bool | Whole | float | LabelText | None,
    _plainly("a label is a text without NUL of at most 1000 characters, a finite number, true or false"),
]
Cycle = Annotated[
    Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] | Name | None,
    _plainly("a cycle is a whole number from 0 or a name of at most 200 characters"),
]


class Item(Strict):
    """What was true of one row of one answer: its `label`, or whether it was `accepted`. One of both."""

    request_id: RequestId
    row: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    head: Name | None = Field(None, description="the label column; unset: the first")
    label: Label = None
    accepted: StrictBool | None = None

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


class LearningRequest(Strict):
    """One learning cycle. A `cycle` that was told before is not replaced: the same again adds nothing."""

    model: ModelName | None = None
    cycle: Cycle = None
    accept_rate: Share | None = Field(None, description="unset: accepted / (accepted + rejected)")
    accepted: Count | None = None
    rejected: Count | None = None
    at: Moment | None = None
    metrics: FreeJson = Field(default_factory=dict)

    @model_validator(mode="after")
    def has_a_rate(self) -> Self:
        if (self.accepted is None) != (self.rejected is None):
            raise ValueError("send accepted and rejected, or neither of them")
        if self.accept_rate is None and self._counted is None:
            raise ValueError("send accept_rate, or how many were accepted and rejected")
        both = None not in (self.accept_rate, self.accepted, self.rejected)
        if both and self._counted is not None and abs(self.rate - self._counted) > ROUNDED:
            raise ValueError(f"accept_rate is {self.rate:g}, and accepted / (accepted + rejected) {self._counted:.4g}")
        return self

    @property
    def rate(self) -> float:
        rate = self._counted if self.accept_rate is None else self.accept_rate
        assert rate is not None
        return rate

    @property
    def _counted(self) -> float | None:
        judged = (self.accepted or 0) + (self.rejected or 0)
        return (self.accepted or 0) / judged if judged else None


class LearningAccepted(BaseModel):
    """`replayed`: it was known before, by its cycle or its Idempotency-Key, and nothing was added; `id` is of the
    first time."""

    model: str
    id: int
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
    value: Value
    version: Id | None = None
    n: Annotated[int, Field(ge=1, le=10**12, strict=True)] | None = Field(
        None, description="of how many it is the mean, and what it weighs  [1]"
    )
    at: Moment | None = None
    source: Name = "api"


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
