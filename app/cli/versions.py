from typing import Any

import click

from app.cli.arguments import examples, limit_option, model_argument, model_option
from app.cli.client import Json, connect, resolved
from app.cli.gate_table import figure, show_gate
from app.cli.output import emit, json_option, record, say, table, told

number = click.IntRange(1)
CLASSIFIERS = ("f1", "auc_roc")


@click.group()
def versions() -> None:
    """The immutable results of trainings."""


@versions.command("list", epilog=examples("refit versions list fraud"))
@model_argument
@limit_option
@json_option
def list_versions(model: str | None, limit: int) -> None:
    """Versions of MODEL, newest first."""
    found = connect().pages("/model/versions", limit, model=model)
    emit(found, _show_list)


@versions.command(epilog=examples("refit versions show 7", "refit versions show 7 --model fraud --json"))
@click.argument("version", type=number)
@model_option
@json_option
def show(version: int, model: str | None) -> None:
    """One version: its figures, and how the gate judged it."""
    api = connect()
    emit(api.get(f"/model/versions/{resolved(api, model)}/{version}"), _show)


@versions.command(epilog=examples("refit versions diff 6 7"))
@click.argument("older", type=number)
@click.argument("newer", type=number)
@model_option
@json_option
def diff(older: int, newer: int, model: str | None) -> None:
    """What two versions differ in."""
    found = connect().get("/model/diff", model=model, older=older, newer=newer)
    emit(found, _show_differences)


@versions.command(epilog=examples("refit versions stage 7"))
@click.argument("version", type=number)
@model_option
@click.option("--reason", help="Why; kept in the record.")
@click.option("--force", is_flag=True, help="Also where the verdict is inconclusive; with --reason.")
@json_option
def stage(version: int, model: str | None, **options: Any) -> None:
    """Put a version that passed the gate into standby by hand."""
    api = connect()
    slots = api.post(f"/model/versions/{resolved(api, model)}/{version}/stage", options)
    emit(slots, lambda row: click.echo(row["standby"]))
    say(f"version {slots['standby']} of {slots['model']} stands by; swap it in: refit reload {slots['model']}")


def _show_list(found: list[Json]) -> None:
    figures = _figures(found)
    headers = ("version", "verdict", "against", *figures, "job", "data version", "created")
    table(headers, [_row(version, figures) for version in found])


def _figures(found: list[Json]) -> tuple[str, ...]:
    """Those of classifiers; where none was judged by them, the first two that the newest was judged by."""
    named = [[c["name"] for c in version["gate"].get("criteria", ()) if not c.get("slice")] for version in found]
    if any(set(CLASSIFIERS) & set(names) for names in named) or not any(named):
        return CLASSIFIERS
    return tuple(next(names for names in named if names)[:2])


def _row(version: Json, figures: tuple[str, ...]) -> tuple[Any, ...]:
    judged = {criterion["name"]: criterion["candidate"] for criterion in version["gate"].get("criteria", ())}
    return (
        version["number"],
        version["verdict"],
        version["incumbent"],
        *(figure(judged.get(name)) for name in figures),
        version["job_id"],
        version["data_version"][:12],
        version["created_at"],
    )


def _show(version: Json) -> None:
    fields = {
        "version": f"{version['number']} of {version['model']}",
        "verdict": version["verdict"],
        "job": version["job_id"],
        "definition": f"revision {version['definition_revision']}",
        "data version": version["data_version"],
        "artifact": f"{version['artifact']} ({version['format']}, {version['size']:,} bytes)",
        "metrics": ", ".join(f"{name} {told(value)}" for name, value in version["metrics"].items()),
        "created": version["created_at"],
    }
    record(fields)
    if version["gate"]:
        click.echo()
        show_gate(version["gate"])


def _show_differences(found: Json) -> None:
    headers = ("", f"version {found['older']}", f"version {found['newer']}")
    table(headers, [(name, pair["older"], pair["newer"]) for name, pair in found["differences"].items()])
