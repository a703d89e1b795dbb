"""What a candidate must meet, by the name of the metric, and how sure the gate must be of it.

A criterion is named `f1`; `f1[spam]` where it speaks of one class; `category.f1` or `category.f1[spam]` where several
label columns are predicted and it speaks of one. In a report `[region=north]` behind a name is the slice.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from app.schemas import Strict

Mode = Literal["point", "confident"]
SliceMode = Literal["loss_shown", "confident", "point"]

LATENCY = "latency_p99_seconds"
NAME = re.compile(r"(?:(?P<column>.+)\.)?(?P<metric>\w+)(?:\[(?P<label>.+)\])?", re.DOTALL)


Asked = TypeVar("Asked")


class Name(NamedTuple):
    """A criterion's name in its parts. `label` as people write it: true, 1, spam."""

    column: str | None
    metric: str
    label: str | None

    @property
    def rest(self) -> str:
        """Without the column."""
        return self.metric if self.label is None else f"{self.metric}[{self.label}]"


def parsed(name: str) -> Name:
    found = NAME.fullmatch(name)
    return Name(found["column"], found["metric"], found["label"]) if found else Name(None, name, None)


class Criterion(Strict):
    """One requirement: absolute bounds, bounds on the change against the incumbent, or both."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(None, ge=0, description="how far below the incumbent it may be")
    max_rise: float | None = Field(None, ge=0, description="how far above the incumbent it may be")
    min_rows_per_class: int | None = Field(
        None, ge=1, description="fewer rows of a class that it speaks of: inconclusive; asked beside the gate's"
    )

    @model_validator(mode="after")
    def asks_for_something(self) -> Self:
        if self.min is self.max is self.max_drop is self.max_rise is None:
            raise ValueError("a criterion needs min, max, max_drop or max_rise")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: nothing would ever meet it")
        return self

    @property
    def compares(self) -> bool:
        return self.max_drop is not None or self.max_rise is not None


# Runbook 002, "Evaluation Gate".
DEFAULT_CRITERIA: dict[str, Criterion] = {
    "f1": Criterion(max_drop=0.01),
    "auc_roc": Criterion(max_drop=0.005),
    "precision": Criterion(min=0.85),
    "recall": Criterion(min=0.80),
    LATENCY: Criterion(max=1.0),
}


class Slice(Strict):
    """Each value of `column` in the holdout is judged as a group by itself, so that a gain on average hides no loss.

    The `at_most` most frequent values are groups, the rest together is `(other)`, rows without a value `(missing)`; a
    column with more different numbers than that is cut at its quartiles. The column need not be a feature.

    `mode` says when a group's loss against the incumbent counts; groups are small, so figures alone move by chance:

    - `loss_shown`: a loss beyond the margin fails where chance does not explain it, with the gate's confidence over all
      groups together (`bootstrap.simultaneous`): an equal candidate is refused in (1 - confidence) / 2 of the cases,
      however many groups there are. A loss that is not shown passes, so what a group does not show it does not
      protect from: on few rows only great losses are seen.
    - `confident`: as the whole is judged where the gate is confident. A group is inconclusive until its rows exclude
      a loss beyond the margin. All must, so no correction is due (intersection-union test, Berger 1982); with
      many groups of few rows hardly any candidate does.
    - `point`: the figure alone. Among twenty small groups of an equal candidate, one or another is beyond any margin.

    Bounds of the figure itself (`min`, `max`) are held to the point estimate in each mode.

    `too_few: ignore` reports a group with too few rows as not applicable: rare values are the rule, they count in
    the whole all the same, and one shop with three rows would otherwise hold up every candidate for ever.
    `inconclusive` is for columns all of whose values must be judged.
    """

    column: Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
    criteria: dict[str, Criterion] = Field(min_length=1)
    mode: SliceMode = "loss_shown"
    min_rows: int = Field(30, ge=1, description="fewer rows in a group: see too_few")
    min_rows_per_class: int = Field(
        5,
        ge=1,
        description="the same for a class that the criterion reads; a mean over classes leaves such classes out",
    )
    at_most: int = Field(20, ge=1, le=200, description="groups of a column, besides (other) and (missing)")
    too_few: Literal["ignore", "inconclusive"] = "ignore"

    def criteria_of(self, label: str) -> dict[str, Criterion]:
        return _of_column(self.criteria, label)


class Gate(Strict):
    """`criteria` lie over the runbook's: name one to change it, set it to null to drop it. Of language models they have
    names and defaults of their own (`evaluation/criteria.py`), and no class.

    Where several label columns are predicted, a criterion is asked of each; `category.f1` speaks of that column alone.
    `recall[spam]` speaks of one class, each against the rest; without a class the mean over all of them is meant, and
    the positive one where there are two.

    `point` compares point estimates, to the runbook's letter; `confident` also asks that the interval of the
    paired difference excludes a loss beyond the margin. All criteria must, so their number asks for no correction: a
    pass that is wrong has passed the worst of them too (intersection-union test, Berger 1982). Unset: confident
    where reload is automatic, else point; the definition resolves it (`Definition.gate_mode`), and the gate is
    handed the resolved mode.
    """

    mode: Mode | None = None
    criteria: dict[str, Criterion | None] = Field(default_factory=dict)
    min_rows: int = Field(50, ge=1, description="fewer holdout rows: inconclusive")
    min_rows_per_class: int = Field(10, ge=1, description="fewer holdout rows of any class: inconclusive")
    resamples: int = Field(2_000, ge=200, le=20_000, description="of the paired bootstrap")
    confidence: float = Field(
        0.98,
        gt=0.5,
        lt=1,
        description="of two-sided intervals: half of the rest is what a loss at the margin passes by",
    )
    slices: list[Slice] = Field(default_factory=list, max_length=20)
    leak_check: Literal["required", "reported"] = Field(
        "required", description="required: inconclusive where nobody knows which rows a version was trained on"
    )

    @field_validator("slices")
    @classmethod
    def slices_name_columns_once(cls, value: list[Slice]) -> list[Slice]:
        names = [slice.column for slice in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} has several slices; write their criteria into one")
        return value

    def criteria_of(self, label: str) -> dict[str, Criterion]:
        """What is judged of the predictions of one label column: the runbook's, with the definition's over them."""
        found = _of_column(DEFAULT_CRITERIA | self.criteria, label)
        return {name: c for name, c in found.items() if c is not None}

    @property
    def slice_columns(self) -> list[str]:
        return [slice.column for slice in self.slices]

    @property
    def latency(self) -> Criterion | None:
        """What is asked of the whole version, whichever columns it predicts."""
        return (DEFAULT_CRITERIA | self.criteria)[LATENCY]


def _of_column(criteria: Mapping[str, Asked], label: str) -> dict[str, Asked]:
    """Those of every column, with the column's own over them, without its name."""
    names = {name: parsed(name) for name in criteria}
    shared = {name: criteria[name] for name, parts in names.items() if parts.column is None}
    return shared | {parts.rest: criteria[name] for name, parts in names.items() if parts.column == label}
