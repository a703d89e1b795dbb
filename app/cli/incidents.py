from typing import Any

import click

from app.cli.arguments import examples, limit_option
from app.cli.client import Json, connect
from app.cli.output import emit, json_option, record, table

SEVERITIES = click.Choice(["P1", "P2", "P3", "P4"])
STATES = click.Choice(["open", "unacknowledged", "acknowledged", "closed", "all"])
id_argument = click.argument("id", type=click.IntRange(1))


@click.group()
def incidents() -> None:
    """What went wrong and is not closed yet. An open P1 blocks training."""


@incidents.command("list", epilog=examples("refit incidents list", "refit incidents list --state all --severity P1"))
@click.option("-m", "--model", help="Of this model only.")
@click.option("--state", type=STATES, default="open", show_default=True, help="open: whatever nobody has closed.")
@click.option("--severity", type=SEVERITIES, help="Of this severity only.")
@limit_option
@json_option
def list_incidents(model: str | None, state: str, severity: str | None, limit: int) -> None:
    """Incidents, newest first."""
    found = connect().pages("/incidents", limit, model=model, state=state, severity=severity)
    headers = ("id", "severity", "model", "title", "times", "opened", "by", "taken by", "closed", "note")
    emit(found, lambda rows: table(headers, map(_row, rows)))


@incidents.command(epilog=examples("refit incidents show 3"))
@id_argument
@json_option
def show(id: int) -> None:
    """One incident, with links to its evidence."""
    emit(connect().get(f"/incidents/{id}"), _show)


@incidents.command("open", epilog=examples("refit incidents open 'labels arrive late' --severity P1 --model fraud"))
@click.argument("title")
@click.option("--severity", type=SEVERITIES, required=True)
@click.option("-m", "--model", help="The model that it concerns.  [every model]")
@json_option
def open_incident(title: str, severity: str, model: str | None) -> None:
    """Open an incident and print its id."""
    body = {"title": title, "severity": severity, "model": model}
    emit(connect().post("/incidents", body), lambda incident: click.echo(incident["id"]))


@incidents.command(epilog=examples("refit incidents ack 3 --note 'I look at the export'"))
@id_argument
@click.option("--note", help="What you are going to do.")
@json_option
def ack(id: int, note: str | None) -> None:
    """Take an incident over, so that others know that somebody does."""
    emit(connect().post(f"/incidents/{id}/acknowledge", {"note": note}), lambda incident: click.echo(incident["id"]))


@incidents.command(epilog=examples("refit incidents close 3 --note 'the export was fixed'"))
@id_argument
@click.option("--note", required=True, help="How it ended.")
@json_option
def close(id: int, note: str) -> None:
    """Close an incident."""
    emit(connect().post(f"/incidents/{id}/close", {"note": note}), lambda incident: click.echo(incident["id"]))


def _row(incident: Json) -> tuple[Any, ...]:
    names = (
        "id", "severity", "model", "title", "occurrences", "opened_at", "opened_by", "acknowledged_by", "closed_at",
        "note",
    )  # fmt: skip
    return tuple(incident[name] for name in names)


def _show(incident: Json) -> None:
    record({name: value for name, value in incident.items() if name != "links"})
    if incident["links"]:
        click.echo()
        table(("evidence", "id", "where"), [(link["kind"], link["id"], link["href"]) for link in incident["links"]])
