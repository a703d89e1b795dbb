from collections.abc import Sequence
from typing import Any

import click

from app.cli.arguments import examples
from app.cli.client import Json, connect
from app.cli.output import emit, json_option, table

OUTCOMES = {"accepted": "job {}", "coalesced": "job {} (open already)"}


@click.group()
def monitors() -> None:
    """Rules that look at recorded numbers and may trigger a job: accuracy, drift, acceptance, any metric."""


@monitors.command(epilog=examples("refit monitors check", "refit monitors check fraud", "refit monitors check --look"))
@click.argument("model", required=False)
@click.option("--look", is_flag=True, help="Only look: trigger nothing.")
@json_option
def check(model: str | None, look: bool) -> None:
    """Run the monitors of MODEL, or of every model, once, and say what they found."""
    found = connect().post("/monitoring/check", {"model": model, "trigger": not look})
    headers = ("model", "monitor", "state", "why", "what followed")
    emit(found, lambda answer: table(headers, map(_checked, answer["checks"])))


@monitors.command("list", epilog=examples("refit monitors list", "refit monitors list fraud --json"))
@click.argument("model", required=False)
@json_option
def list_monitors(model: str | None) -> None:
    """What every monitor says now, since when, and when it looks again."""
    found = connect().get("/monitoring/monitors", model=model)
    headers = ("model", "monitor", "state", "since", "next look", "why")
    names = ("model", "name", "state", "since", "due_at", "reason")
    emit(found, lambda rows: table(headers, _rows(rows, names)))


@monitors.command(epilog=examples("refit monitors log fraud", "refit monitors log fraud drift --limit 5 --json"))
@click.argument("model")
@click.argument("monitor", required=False)
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@json_option
def log(model: str, monitor: str | None, limit: int) -> None:
    """What the monitors of MODEL found at each look, newest first; with --json on which numbers."""
    found = connect().get("/monitoring/checks", model=model, monitor=monitor, limit=limit)
    headers = ("at", "monitor", "version", "state", "why", "what followed")
    names = ("at", "name", "version", "state", "reason")
    emit(found["data"], lambda rows: table(headers, [(*row, _followed(told)) for row, told in _with(rows, names)]))


def _rows(rows: Sequence[Json], names: Sequence[str]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def _with(rows: Sequence[Json], names: Sequence[str]) -> list[tuple[tuple[Any, ...], Json]]:
    return list(zip(_rows(rows, names), rows, strict=True))


def _checked(found: Json) -> tuple[Any, ...]:
    return found["model"], found["monitor"], found["state"], found["reason"], _followed(found)


def _followed(found: Json) -> str | None:
    if found["outcome"] is None:
        return None
    return OUTCOMES.get(found["outcome"], f"refused: {found['outcome']}").format(found["job_id"])
