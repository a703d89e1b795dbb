from typing import Any

import click

from app.cli.arguments import examples
from app.cli.client import Json, connect
from app.cli.output import emit, json_option, table


@click.group()
def watches() -> None:
    """The watch of each swap: what was promised of the new version, what was seen of it, and how it ended."""


@watches.command("list", epilog=examples("refit watches list", "refit watches list --model fraud --state rolled_back"))
@click.option("-m", "--model", help="Of this model only.")
@click.option("--state", help="Only those that are or ended so: watching, passed, rolled_back, …")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@json_option
def list_watches(model: str | None, state: str | None, limit: int) -> None:
    """Watches, newest first."""
    found = connect().get("/monitoring/watches", model=model, state=state, limit=limit)
    names = ("id", "model", "version", "state", "started_at", "until", "reason")
    emit(found["data"], lambda rows: table(names, [tuple(row[name] for name in names) for row in rows]))


@watches.command(epilog=examples("refit watches show 7", "refit watches show 7 --json"))
@click.argument("id", type=click.IntRange(1))
@json_option
def show(id: int) -> None:
    """One watch, check by check: how much was seen, and how sure it is that the promise is broken."""
    emit(connect().get(f"/monitoring/watches/{id}"), _print)


def _print(watch: Json) -> None:
    click.echo(f"{watch['model']} version {watch['version']}: {watch['state']}, from {watch['started_at']}")
    if watch["reason"]:
        click.echo(watch["reason"])
    checks = (watch["numbers"] or {}).get("checks", {})
    headers = ("check", "seen", "value", "limit", "sure")
    table(headers, [_row(name, watch["promised"][name], seen) for name, seen in checks.items()])


def _row(name: str, promised: Json, seen: Json) -> tuple[Any, ...]:
    """How sure: 100 % is where it rolls back."""
    limits = list(promised.get("limits", {}).values())
    limit = promised["limit"] if "limit" in promised else round(sum(limits) / len(limits), 4)
    sure = None if seen["evidence"] is None else f"{min(1.0, max(0.0, seen['evidence']) / seen['needed']):.0%}"
    return name, seen["n"], seen["value"], limit, sure
