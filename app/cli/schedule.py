from typing import Any

import click

from app.cli.arguments import examples, model_argument
from app.cli.client import Json, connect
from app.cli.output import emit, json_option, table


@click.group()
def schedule() -> None:
    """Trainings at fixed times, in UTC; `triggers.schedule` of a definition says which."""


@schedule.command("list", epilog=examples("refit schedule list", "refit schedule list fraud --json | jq .[0].next"))
@model_argument
@json_option
def list_schedules(model: str | None) -> None:
    """Every schedule: when it is due next, and what came of the last time."""
    headers = ("model", "cron", "next", "missed", "last", "outcome", "job", "reason")
    emit(connect().get("/schedule", model=model), lambda rows: table(headers, map(_row, rows)))


def _row(found: Json) -> tuple[Any, ...]:
    last = found["last"] or dict.fromkeys(("due_at", "outcome", "job_id", "reason"))
    missed = "skip" if found["missed"] == "skip" else f"within {found['missed_minutes']:g} min"
    came = (last["due_at"], last["outcome"], last["job_id"], last["reason"])
    return (found["model"], found["schedule"], found["next"][0], missed, *came)
