"""A model's definition: what is trained, on what, judged how, and what happens by itself afterwards.

Every key but `type` and `data` has a default, and the defaults are those of the retraining runbook. Unknown keys are
refused. `data` is checked by the source it names, `training` by the JSON Schema that workers publish for the type.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, StringConstraints, ValidationInfo, field_validator, model_validator

from app.data.language_model import LabelOptions
from app.data.sources import SourceOptions, options_of
from app.gate.criteria import LATENCY, Gate, Mode, Name, parsed
from app.gate.metrics import METRICS, OF_ONE_CLASS
from app.runtimes.schema import Label, named
from app.schemas import FreeJson, Strict


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

    min_new_samples: int = Field(10_000, ge=0, description="labelled rows since the last training; 0: not asked")
    data_quality: bool = Field(True, description="refuse while the last day has a critical quality report")
    no_open_p1: bool = Field(True, description="refuse while a P1 incident is open")


class Promotion(Strict):
    """What happens by itself after a verdict of pass."""

    stage: Literal["automatic", "manual"] = "automatic"
    reload: Literal["automatic", "manual"] = "manual"


class Watch(Strict):
    """How long a new active version is watched; the version before it stays in standby meanwhile."""

    minutes: float = Field(30, ge=0, le=7 * 24 * 60)


class Triggers(Strict):
    """When a job is triggered by itself. Times are UTC."""

    schedule: str | None = Field(None, description="cron, five fields; the runbook's is '0 2 * * 0'")
    cooldown_minutes: float = Field(60, ge=0, description="after a training, automatic triggers wait so long")
    weekly_budget: int = Field(7, ge=1, description="automatic trainings in any seven days")

    @field_validator("schedule")
    @classmethod
    def is_cron(cls, value: str | None) -> str | None:
        from croniter import croniter  # noqa: PLC0415 - half the definitions have no schedule, the CLI never needs it

        if value is not None and (len(value.split()) != 5 or not croniter.is_valid(value)):
            raise ValueError("not a cron expression of five fields, such as '0 2 * * 0'")
        return value


class Definition(Strict):
    type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    description: str = ""
    data: SerializeAsAny[SourceOptions]
    label: LabelOptions | None = Field(None, description="a language model gives the labels before each training")
    split: Split = Field(default_factory=Split)
    training: FreeJson = Field(default_factory=dict, description="the parameters of the type's pipeline")
    queue: str | None = Field(None, description="cpu or gpu; unset: the type's own")
    prerequisites: Prerequisites = Field(default_factory=Prerequisites)
    gate: Gate = Field(default_factory=Gate)
    promotion: Promotion = Field(default_factory=Promotion)
    watch: Watch = Field(default_factory=Watch)
    triggers: Triggers = Field(default_factory=Triggers)

    @field_validator("data", mode="before")
    @classmethod
    def checked_by_its_source(cls, value: Any) -> Any:
        return options_of(value) if isinstance(value, dict) else value

    @field_validator("gate")
    @classmethod
    def names_what_is_measured(cls, value: Gate, told: ValidationInfo) -> Gate:
        data = told.data.get("data")
        columns: tuple[str, ...] = data.label_columns if data else ()
        labels: dict[str, list[Label]] = data.known_labels if data else {}
        asked = {name: parsed(name) for name in [*value.criteria, *(n for s in value.slices for n in s.criteria)]}
        sliced = {n for s in value.slices for n in s.criteria}
        if unknown := sorted(n for n, parts in asked.items() if not _is_measured(parts, columns, n not in sliced)):
            known = ", ".join([*METRICS, LATENCY])
            hint = f", each but the last of a label column too, such as {columns[0]}.f1" if len(columns) > 1 else ""
            hint += f"; {', '.join(OF_ONE_CLASS)} of one class too, such as recall[spam]"
            raise ValueError(f"the gate does not measure {', '.join(unknown)}; it knows {known}{hint}")
        for name, parts in asked.items():
            _known_class(name, parts, columns, labels)
        if clash := sorted(set(value.slice_columns) & set(columns)):
            raise ValueError(f"{clash[0]} is what is predicted: instead of a slice write recall[…] of one class")
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
    def what_is_labelled_is_a_text(self) -> Self:
        if self.label is None:
            return self
        if self.data.text is None:
            raise ValueError("label gives labels to texts; name them in data.text")
        unknown = sorted(set(self.label.columns or ()) - set(self.data.label_columns))
        if unknown:
            raise ValueError(f"label.columns names {', '.join(unknown)}, which is no label column")
        return self

    @property
    def gate_mode(self) -> Mode:
        return self.gate.mode or ("confident" if self.promotion.reload == "automatic" else "point")


def _is_measured(name: Name, columns: Sequence[str], of_all_rows: bool) -> bool:
    """Latency is of the whole version: of no label column, no class and no slice."""
    if name.metric == LATENCY:
        return of_all_rows and name.column is None and name.label is None
    if name.column is not None and name.column not in columns:
        return False
    return name.metric in (METRICS if name.label is None else OF_ONE_CLASS)


def _known_class(name: str, parts: Name, columns: Sequence[str], labels: Mapping[str, Sequence[Label]]) -> None:
    """Where the definition says which classes there are, the class of a criterion is one of them."""
    speaks_of = columns if parts.column is None else [parts.column]
    known = [named(label) for column in speaks_of for label in labels.get(column, ())]
    if parts.label is not None and all(column in labels for column in speaks_of) and parts.label not in known:
        raise ValueError(f"{name} speaks of a class that data.labels does not know; it knows {', '.join(known)}")
