"""Any declared metric against its thresholds: BLEU, ROUGE, empathy, whatever somebody reports."""

from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from app.feedback.learning import recent_metric
from app.feedback.schemas import MetricName
from app.monitoring.monitors import Finding, Minutes, MonitorOptions, Numbers, State, Subject


class Options(MonitorOptions):
    """The mean of the last `window` values, each by its `n`. `time_weighted`: each `half_life_minutes` of age halves
    its weight."""

    kind: Literal["metric"] = "metric"
    metric: MetricName
    min: float | None = None
    max: float | None = None
    window: int = Field(5, ge=1, le=1_000)
    at_least: int = Field(1, ge=1, le=1_000, description="fewer values: unknown")
    average: Literal["mean", "time_weighted"] = "mean"
    half_life_minutes: Minutes = Field(24 * 60, description="where the average is time_weighted")
    max_age_minutes: Minutes | None = Field(None, description="older values do not count  [any age]")
    only_active: bool = Field(True, description="only values of the active version, and of no version")

    @model_validator(mode="after")
    def asks_for_something(self) -> Self:
        if self.min is self.max is None:
            raise ValueError("a metric monitor needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: every value would be beyond one of them")
        if self.at_least > self.window:
            raise ValueError(f"at_least is {self.at_least}, and the window holds {self.window}: it would never judge")
        if "half_life_minutes" in self.model_fields_set and self.average != "time_weighted":
            raise ValueError("half_life_minutes is for average: time_weighted")
        return self


async def read(subject: Subject, options: Options) -> Numbers:
    since = None if options.max_age_minutes is None else subject.now - timedelta(minutes=options.max_age_minutes)
    version = subject.version if options.only_active else None
    points = await recent_metric(
        subject.session, subject.model, options.metric, version=version, since=since, limit=options.window
    )
    told = [{"at": point.at.isoformat(), "value": float(point.value), "n": point.n or 1} for point in points]
    return {"values": told, "average": _average(told, options) if told else None}


def judge(options: Options, numbers: Numbers) -> Finding:
    count, average = len(numbers["values"]), numbers["average"]
    if count < options.at_least:
        return Finding(
            State.UNKNOWN, f"{count} values of {options.metric} were reported; {options.at_least} are needed."
        )
    found = f"{options.metric} is {average:.4g} over the last {count} values"
    if options.min is not None and average < options.min:
        return Finding(State.BREACHED, f"{found}, below {options.min:g}.")
    if options.max is not None and average > options.max:
        return Finding(State.BREACHED, f"{found}, above {options.max:g}.")
    return Finding(State.OK, f"{found}.")


def _average(values: list[dict[str, Any]], options: Options) -> float:
    """Ages are counted from the newest value, so that silence alone changes nothing."""
    times = [datetime.fromisoformat(value["at"]) for value in values]
    newest = max(times)
    half_life = timedelta(minutes=options.half_life_minutes)
    ages = [(newest - at) / half_life if options.average == "time_weighted" else 0.0 for at in times]
    weights = [value["n"] * 0.5**age for value, age in zip(values, ages, strict=True)]
    weighted = sum(weight * value["value"] for weight, value in zip(weights, values, strict=True))
    return float(weighted / sum(weights))
