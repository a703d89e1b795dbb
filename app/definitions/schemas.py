"""A model's definition: what is trained, on what, judged how, and what happens by itself afterwards.

Every key but `type` and `data` has a default, and the defaults are those of the retraining runbook. Unknown keys are
refused. `data` is checked by the source it names, `training` by the JSON Schema that workers publish for the type.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.data.language_model import LabelOptions
from app.data.sources import SourceOptions, options_of
from app.definitions.triggering import Triggers
from app.definitions.watching import LONG_WATCH_MINUTES, WatchOptions
from app.evaluation import criteria as of_generators
from app.gate import measurable as of_labels
from app.gate.criteria import LATENCY, Gate, Mode
from app.monitoring.monitors import MonitorOptions
from app.monitoring.monitors import options_of as monitor_of
from app.schemas import FreeJson, Strict

# Every row trains from nothing, or what is active is trained on, or somebody else has trained: it is fetched.
Strategy = Literal["full", "incremental", "pull"]

MonitorName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]

# Runbook 002, "When to Retrain", and runbook 003.
DEFAULT_MONITORS: dict[str, dict[str, Any]] = {
    "f1": {"kind": "accuracy"},
    "drift": {"kind": "drift"},
    "acceptance": {"kind": "acceptance"},
}


class Split(Strict):
    """Which rows train, choose (validation) and judge (holdout). Shares of all rows, each in (0, 0.5]."""

    by: Literal["hash", "time"] = "hash"
    validation: float = Field(0.15, gt=0, le=0.5)
    holdout: float = Field(0.15, gt=0, le=0.5)

    @model_validator(mode="after")
    def leaves_rows_to_train_on(self) -> Self:
        if self.validation + self.holdout >= 0.9:
            raise ValueError("validation and holdout leave less than a tenth of the rows to train on")
        return self


class Prerequisites(Strict):
    """What must hold before a training is admitted."""

    min_new_samples: int = Field(
        10_000, ge=0, le=10**12, description="labelled rows since the last training; 0: not asked"
    )
    data_quality: bool = Field(True, description="refuse while the last day has a critical quality report")
    no_open_p1: bool = Field(True, description="refuse while a P1 incident is open")
    live_worker: bool = Field(False, description="refuse while no live worker serves the queue; else it is a warning")
    confirmation: bool = Field(
        True, description="of costly types: a training needs the token of a dry run; triggers by themselves have none"
    )


class Promotion(Strict):
    """What happens by itself after a verdict of pass."""

    stage: Literal["automatic", "manual"] = "automatic"
    reload: Literal["automatic", "manual"] = "manual"


class Logging(Strict):
    """Which share of the requests is kept as it came, with its answer. Rows are personal data: none, by default."""

    sample: float = Field(0, ge=0, le=1, description="share of the requests")
    keep_days: float = Field(7, gt=0, le=365)


class Preference(Strict):
    """Where the rows of preference learning come from: pairs, answers that people judged, or prompts alone.

    They are a data version of their own.
    """

    data: SerializeAsAny[SourceOptions]

    @field_validator("data", mode="before")
    @classmethod
    def checked_by_its_source(cls, value: Any) -> Any:
        return options_of(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def are_conversations(self) -> Self:
        if self.data.chat is None:
            raise ValueError("name the columns of the conversations in data.chat")
        return self


class Signoff(Strict):
    """Who must have read answers of a version before it may be reloaded."""

    count: int = Field(1, ge=0, le=20, description="people who approve; 0: nobody is asked")
    role: Literal["viewer", "trainer", "operator", "admin"] = Field("operator", description="that each of them has")
    prompts: int = Field(20, ge=1, le=500, description="on the evaluation sheet")
    risk: str | None = Field(None, description="the column that orders the sheet, the highest first")


class Definition(Strict):
    type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    description: str = ""
    data: SerializeAsAny[SourceOptions]
    label: LabelOptions | None = Field(None, description="a language model gives the labels before each training")
    split: Split = Field(default_factory=Split)
    training: FreeJson = Field(default_factory=dict, description="the parameters of the type's pipeline")
    strategy: Strategy = Field("full", description="incremental: starts from the active version, where the type can")
    queue: str | None = Field(None, description="cpu or gpu; unset: the type's own")
    prerequisites: Prerequisites = Field(default_factory=Prerequisites)
    gate: Gate = Field(default_factory=Gate)
    promotion: Promotion = Field(default_factory=Promotion)
    watch: WatchOptions = Field(default_factory=WatchOptions)
    monitors: dict[MonitorName, dict[str, Any] | None] = Field(
        default_factory=dict, max_length=100, description="rules that may trigger a job; they lie over the runbooks'"
    )
    triggers: Triggers = Field(default_factory=Triggers)
    preference: Preference | None = Field(None, description="of language models: what is preferred to what")
    signoff: Signoff | None = Field(None, description="people who must approve a version before its reload")
    logging: Logging = Field(default_factory=Logging)

    @field_validator("data", mode="before")
    @classmethod
    def checked_by_its_source(cls, value: Any) -> Any:
        return options_of(value) if isinstance(value, dict) else value

    @field_validator("gate")
    @classmethod
    def names_what_is_measured(cls, value: Gate, told: ValidationInfo) -> Gate:
        data = told.data.get("data")
        if data is None:  # what is wrong with it is told already, and says nothing of the gate
            return value
        if data.chat is not None:
            of_generators.check(value, of_generators.judges_of(told.data.get("training", {})))
            return value
        of_labels.check(value, data.label_columns, data.known_labels)
        return value

    @field_validator("queue")
    @classmethod
    def is_a_queue(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", value):
            raise ValueError("a queue is a lower-case word such as cpu or gpu")
        return value

    @model_validator(mode="after")
    def time_split_has_a_time(self) -> Self:
        if self.split.by == "time" and self.data.time is None:
            raise ValueError("split by time needs data.time: a column, or '@row' for the order of the rows")
        return self

    @model_validator(mode="after")
    def preferences_are_of_conversations(self) -> Self:
        if self.preference is not None and self.data.chat is None:
            raise ValueError("preference is of language models; name the conversations in data.chat")
        sources = {self.data.source, self.preference.data.source if self.preference else None}
        if "feedback" in sources and not self.logging.sample:
            raise ValueError("source feedback reads answers that were logged; set logging.sample above 0")
        return self

    @model_validator(mode="after")
    def what_is_labelled_is_a_text(self) -> Self:
        if self.label is None:
            return self
        if self.data.text is None:
            raise ValueError("label gives labels to texts; name them in data.text")
        unknown = sorted(set(self.label.columns or ()) - set(self.data.label_columns))
        if unknown:
            raise ValueError(f"label.columns names {', '.join(unknown)}, which is no label column")
        return self

    @model_validator(mode="after")
    def is_watched_as_long_as_its_type_takes(self) -> Self:
        if "minutes" not in self.watch.model_fields_set and self.type in LONG_WATCH_MINUTES:
            self.watch = self.watch.model_copy(update={"minutes": LONG_WATCH_MINUTES[self.type]})
        return self

    @model_validator(mode="after")
    def monitors_are_known(self) -> Self:
        for name, told in self.monitors.items():
            try:
                found = self._monitor(name, told)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, ("monitors", name, *first["loc"])))
                raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
            except ValueError as error:
                raise ValueError(f"monitors.{name}: {error}") from None
            self._knows_its_head(name, found)
        return self

    def _knows_its_head(self, name: str, found: MonitorOptions | None) -> None:
        head, known = getattr(found, "head", None), self.data.label_columns
        if head is not None and head not in known:
            raise ValueError(f"monitors.{name}.head: {head!r} is no label column; there is {', '.join(known)}")

    @property
    def watched(self) -> dict[str, MonitorOptions]:
        """The monitors by name: the runbooks', with the definition's over them."""
        every = DEFAULT_MONITORS | self.monitors
        return {name: found for name, told in every.items() if (found := self._monitor(name, told)) is not None}

    @staticmethod
    def _monitor(name: str, told: dict[str, Any] | None) -> MonitorOptions | None:
        return None if told is None else monitor_of(DEFAULT_MONITORS.get(name, {}) | told)

    @property
    def generates(self) -> bool:
        """Whether its versions answer with text."""
        return self.data.chat is not None

    @property
    def latency_limit(self) -> float | None:
        """The p99 in seconds that the gate asks for. The runbook's second is for labels: of texts only what is said."""
        asked = self.gate.criteria.get(LATENCY) if self.generates else self.gate.latency
        return asked.max if asked else None

    @property
    def gate_mode(self) -> Mode:
        return self.gate.mode or ("confident" if self.promotion.reload == "automatic" else "point")
