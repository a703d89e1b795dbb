"""A metric of the labels that came back against the gate's: the runbook's "F1 drops > 0.05 from baseline"."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from app.feedback.outcomes import outcomes
from app.monitoring.monitors import FewestRows, Finding, Minutes, MonitorOptions, Numbers, State, Subject
from app.monitoring.sequential import f1_upper_bound, share_upper_bound
from app.monitoring.standing import Standing

DOUBT = 0.05


class Options(MonitorOptions):
    """Breached where the metric is surely more than `max_drop` below the gate's.

    Surely: so is its one-sided 95 % bound, where it has one (F1 of two labels, accuracy). A drop that so few labels may
    show by chance is `pending`.
    """

    kind: Literal["accuracy"] = "accuracy"
    every_minutes: float = Field(5, ge=1 / 60, le=7 * 24 * 60)
    metric: Literal["f1", "accuracy", "precision", "recall"] = "f1"
    head: str | None = Field(None, description="the label column; default: the first")
    max_drop: float = Field(0.05, ge=0, lt=1)
    window_minutes: Minutes = Field(24 * 60, description="labels that came in this time")
    by: Literal["arrival", "answer"] = Field("arrival", description="answer: labels of answers given in this time")
    min_labels: FewestRows = Field(200, description="fewer: unknown")

    @property
    def is_urgent(self) -> bool:
        return True


async def read(subject: Subject, options: Options) -> Numbers:
    since = subject.now - timedelta(minutes=options.window_minutes)
    found = await outcomes(
        subject.session, subject.model, subject.version, head=options.head, since=since, by=options.by
    )
    standing = Standing.of(found)
    name = options.metric if options.head is None else f"{options.head}.{options.metric}"
    baseline = subject.metrics.get(name, subject.metrics.get(options.metric))
    return standing.numbers() | {"baseline": baseline, "window_minutes": options.window_minutes}


def judge(options: Options, numbers: Numbers) -> Finding:
    labels, baseline = numbers["labels"], numbers["baseline"]
    within = f"in {options.window_minutes:g} minutes"
    if baseline is None:
        return Finding(
            State.UNKNOWN, f"The gate did not measure {options.metric}, so there is nothing to compare with."
        )
    if labels < options.min_labels:
        return Finding(State.UNKNOWN, f"{labels} labels came {within}; {options.min_labels} are needed.")
    value, bound = numbers[options.metric], _bound(options, numbers)
    against = f"{value - baseline:+.4f} from the gate's {baseline:.4f}"
    found = f"{options.metric} is {value:.4f} of {labels} labels {within}, {against}"
    if baseline - value <= options.max_drop:
        return Finding(State.OK, f"{found}.")
    if bound is not None and bound >= baseline - options.max_drop:
        return Finding(State.PENDING, f"{found}; so few labels could show that by chance.")
    return Finding(State.BREACHED, f"{found}: a drop of more than {options.max_drop:g}.")


def _bound(options: Options, numbers: Numbers) -> float | None:
    if options.metric == "accuracy":
        return share_upper_bound(numbers["right"], numbers["labels"], DOUBT)
    if options.metric == "f1" and numbers["hits"] is not None:
        return f1_upper_bound(numbers["hits"], numbers["misses"], DOUBT)
    return None
