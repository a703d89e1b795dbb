"""What a candidate must meet, by the name of the metric, and how sure the gate must be of it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.schemas import Strict

Mode = Literal["point", "confident"]

LATENCY = "latency_p99_seconds"


class Criterion(Strict):
    """One requirement: absolute bounds, bounds on the change against the incumbent, or both."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(None, ge=0, description="how far below the incumbent it may be")
    max_rise: float | None = Field(None, ge=0, description="how far above the incumbent it may be")

    @model_validator(mode="after")
    def asks_for_something(self) -> Self:
        if self.min is self.max is self.max_drop is self.max_rise is None:
            raise ValueError("a criterion needs min, max, max_drop or max_rise")
        return self


# Runbook 002, "Evaluation Gate".
DEFAULT_CRITERIA: dict[str, Criterion] = {
    "f1": Criterion(max_drop=0.01),
    "auc_roc": Criterion(max_drop=0.005),
    "precision": Criterion(min=0.85),
    "recall": Criterion(min=0.80),
    LATENCY: Criterion(max=1.0),
}


class Gate(Strict):
    """`criteria` lie over the runbook's: name one to change it, set it to null to drop it.

    Where several label columns are predicted, a criterion is asked of each; `category.f1` speaks of that column alone.

    `point` compares point estimates, to the runbook's letter; `confident` also asks that the interval of the
    paired difference excludes a loss beyond the margin. Unset: confident where reload is automatic, else
    point; the definition resolves it (`Definition.gate_mode`), and the gate is handed the resolved mode.
    """

    mode: Mode | None = None
    criteria: dict[str, Criterion | None] = Field(default_factory=dict)
    min_rows: int = Field(50, ge=1, description="fewer holdout rows: inconclusive")
    min_rows_per_class: int = Field(10, ge=1, description="fewer holdout rows of any class: inconclusive")
    resamples: int = Field(2_000, ge=200, le=20_000, description="of the paired bootstrap")
    confidence: float = Field(0.95, gt=0.5, lt=1)

    def criteria_of(self, label: str) -> dict[str, Criterion]:
        """What is judged of the predictions of one label column: the runbook's, with the definition's over them."""
        shared = {name: c for name, c in (DEFAULT_CRITERIA | self.criteria).items() if "." not in name}
        own = {name.removeprefix(f"{label}."): c for name, c in self.criteria.items() if name.startswith(f"{label}.")}
        return {name: c for name, c in (shared | own).items() if c is not None}

    @property
    def latency(self) -> Criterion | None:
        """What is asked of the whole version, whichever columns it predicts."""
        return (DEFAULT_CRITERIA | self.criteria)[LATENCY]
