from typing import Any

import click

from app.cli.arguments import examples
from app.cli.client import Json, connect
from app.cli.output import emit, json_option, table


@click.group()
def incidents() -> None:
    """What went wrong and is not closed yet. An open P1 blocks training."""


@incidents.command("list", epilog=examples("refit incidents list", "refit incidents list --all"))
@click.option("-m", "--model", help="Of this model only.")
@click.option("--all", "closed_too", is_flag=True, help="The closed ones too.")
@json_option
def list_incidents(model: str | None, closed_too: bool) -> None:
    """Incidents, open ones unless --all."""
    found = connect().get("/incidents", model=model, open=not closed_too)
    headers = ("id", "severity", "model", "title", "opened", "by", "closed", "note")
    emit(found, lambda rows: table(headers, map(_row, rows)))


@incidents.command("open", epilog=examples("refit incidents open 'labels arrive late' --severity P1 --model fraud"))
@click.argument("title")
@click.option("--severity", type=click.Choice(["P1", "P2", "P3", "P4"]), required=True)
@click.option("-m", "--model", help="The model that it concerns.  [every model]")
@json_option
def open_incident(title: str, severity: str, model: str | None) -> None:
    """Open an incident and print its id."""
    body = {"title": title, "severity": severity, "model": model}
    emit(connect().post("/incidents", body), lambda incident: click.echo(incident["id"]))


@incidents.command(epilog=examples("refit incidents close 3 --note 'the export was fixed'"))
@click.argument("id", type=click.IntRange(1))
@click.option("--note", required=True, help="How it ended.")
@json_option
def close(id: int, note: str) -> None:
    """Close an incident."""
    emit(connect().post(f"/incidents/{id}/close", {"note": note}), lambda incident: click.echo(incident["id"]))


def _row(incident: Json) -> tuple[Any, ...]:
    names = ("id", "severity", "model", "title", "opened_at", "opened_by", "closed_at", "note")
    return tuple(incident[name] for name in names)
