from collections.abc import Callable, Mapping
from typing import Any

import click

from app.cli.arguments import Number, examples, model_argument
from app.cli.client import Json, connect
from app.cli.output import UNKNOWN, emit, json_option, record, say, share, table
from app.cli.slots import needed_reason

minutes_option = click.option("--minutes", type=Number(0, min_open=True), default=30, show_default=True)
requests_option = click.option("--max-requests", type=click.IntRange(1), help="That standby answers at most.")
head_option = click.option("--head", help="The label column to compare by, where there are several.")
ARMS = ("requests", "rows", "errors", "invalid", "mean_score", "latency_p50", "latency_p99")
ESTIMATES = ("error_rate", "accuracy", "f1", "acceptance")


@click.group()
def canary() -> None:
    """Let standby answer a share of the callers, the same ones each time, and compare."""


@canary.command("start", epilog=examples("refit canary start fraud --share 0.1 --reason 'before the weekend'"))
@model_argument
@click.option("--share", type=Number(0, 0.5, min_open=True), required=True, help="Of the callers.")
@minutes_option
@requests_option
@needed_reason
@json_option
def start_canary(model: str | None, **options: Any) -> None:
    """Callers are told apart by the header X-Routing-Key; who sends none is answered by active."""
    _started(connect().post("/model/canary", {"model": model, **options}))


@click.group()
def shadow() -> None:
    """Ask standby what active has answered, without anybody noticing, and compare."""


@shadow.command("start", epilog=examples("refit shadow start fraud --reason 'first look at version 8'"))
@model_argument
@click.option("--share", type=Number(0, 1, min_open=True), default=1.0, help="Of the requests.  [all]")
@minutes_option
@requests_option
@needed_reason
@json_option
def start_shadow(model: str | None, **options: Any) -> None:
    """Mirrored after each answer was sent; what comes too fast is left out and counted."""
    _started(connect().post("/model/shadow", {"model": model, **options}))


def _stop(kind: str) -> Callable[..., None]:
    @click.command("stop", epilog=examples(f"refit {kind} stop fraud --reason 'seen enough'"))
    @model_argument
    @needed_reason
    @json_option
    def stop(model: str | None, reason: str) -> None:
        """End the trial that runs."""
        _ended(connect().post(f"/model/{kind}/stop", {"model": model, "reason": reason}))

    return stop


def _show(kind: str) -> Callable[..., None]:
    @click.command("show", epilog=examples(f"refit {kind} show fraud", f"refit {kind} show --json | jq .differences"))
    @model_argument
    @click.option("--id", type=click.IntRange(1), help="Of the trial.  [the running one, else the last]")
    @head_option
    @json_option
    def show(model: str | None, id: int | None, head: str | None) -> None:
        """Both versions in the running trial, else in the last one, with 95 % intervals."""
        emit(connect().get("/model/trial", model=model, id=id, head=head), _show_report)

    return show


for group, kind in ((canary, "canary"), (shadow, "shadow")):
    group.add_command(_stop(kind))  # type: ignore[arg-type]  # the decorators make it a command
    group.add_command(_show(kind))  # type: ignore[arg-type]  # ditto


def _started(trial: Json) -> None:
    emit(trial, lambda told: click.echo(told["id"]))
    say(f"{trial['model']}: {trial['kind']} of version {trial['standby']} beside version {trial['active']}")


def _ended(trial: Json) -> None:
    emit(trial, lambda told: click.echo(told["id"]))
    say(f"{trial['model']}: {trial['kind']} ended after {trial['requests']} requests")


def _show_report(report: Json) -> None:
    names = ("model", "kind", "share", "state", "why", "started_at", "ends_at", "ended_at")
    record({name.replace("_", " "): report["trial"][name] for name in names})
    click.echo()
    arms, gaps = (report["active"], report["standby"]), report["differences"]
    lines = [[name.replace("_", " "), *(arm[name] for arm in arms), None] for name in ARMS]
    lines += [
        [f"label {label}", *(_percent(arm["labels"].get(label)) for arm in arms), None] for label in _labels(arms)
    ]
    lines += [
        [name.replace("_", " "), *(_estimate(arm[name]) for arm in arms), _estimate(gaps.get(name))]
        for name in ESTIMATES
    ]
    table(("", *(f"version {arm['version']} ({arm['slot']})" for arm in arms), "difference"), lines)
    if compared := report["compared"]:
        click.echo()
        fields = {
            "rows compared": compared["rows"],
            "same label": _estimate(compared["agreement"]),
            "mean |score difference|": compared["mean_score_difference"],
            "requests left out": compared["dropped"],
        }
        record(fields)


def _labels(arms: tuple[Json, Json]) -> list[str]:
    return list(dict.fromkeys(label for arm in arms for label in arm["labels"]))


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else share(value)


def _estimate(told: Mapping[str, Any] | None) -> str:
    """0.912 (0.88–0.94, n = 300)."""
    if told is None or told["value"] is None:
        return UNKNOWN
    return f"{told['value']:.3g} ({told['low']:.3g}–{told['high']:.3g}, n = {told['n']})"
