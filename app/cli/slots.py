import sys
from datetime import UTC, datetime
from typing import Any

import click

from app.cli.arguments import examples, limit_option, model_argument
from app.cli.client import Json, connect
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, record, say, table, wants_json


def _reason(_: click.Context, __: click.Parameter, given: str | None) -> str:
    """Asked for on a terminal where it is left out; no script is kept waiting."""
    if given is None and sys.stdin.isatty():
        given = click.prompt("Reason", err=True)
    if not given:
        raise click.UsageError("A reason is needed: --reason '…'. It is kept in the record.")
    return given


needed_reason = click.option("--reason", callback=_reason, help="Why; kept in the record.  [asked for]")
expected = click.option("--expected-active", type=click.IntRange(1), help="Refuse where another version is active.")


@click.command(epilog=examples("refit slots fraud", "refit slots --json | jq .active"))
@model_argument
@json_option
def slots(model: str | None) -> None:
    """What is active and standby, and what each live replica really holds."""
    emit(connect().get("/model/slots", model=model), _show_slots)


@click.command(epilog=examples("refit reload fraud", "refit reload fraud --expected-active 6"))
@model_argument
@click.option("--reason", help="Why; kept in the record.")
@expected
@click.option("--force", is_flag=True, help="Pass over a hold, an inconclusive verdict and replicas not ready.")
@json_option
def reload(model: str | None, **options: Any) -> None:
    """Swap active and standby, and return when every live replica answers with the new version.

    Refused (exit code 4 or 5) unless standby passed the gate against what is active now.
    """
    _conclude(connect().post("/model/reload", {"model": model, **options}), "reloaded")


@click.command(epilog=examples("refit rollback fraud --reason 'recall fell in the evening'"))
@model_argument
@needed_reason
@click.option("--version", type=click.IntRange(1), help="To this one, which was active once.  [the one before]")
@click.option("--no-hold", "hold", is_flag=True, flag_value=False, default=True, help="Let automation go on.")
@expected
@json_option
def rollback(model: str | None, **options: Any) -> None:
    """Back to the version that was active before, with a hold so that no automation undoes it.

    It needs no gate and no worker, and asking twice changes nothing.
    """
    _conclude(connect().post("/model/rollback", {"model": model, **options}), "rolled back")


@click.command(epilog=examples("refit hold fraud --reason 'audit until Friday'"))
@model_argument
@needed_reason
@json_option
def hold(model: str | None, reason: str) -> None:
    """Pin the slots: nothing automatic changes them and reload is refused. Rollback works all the same."""
    emit(connect().post("/model/hold", {"model": model, "reason": reason}), _show_slots)


@click.command(epilog=examples("refit unhold fraud --reason 'audit is done'"))
@model_argument
@needed_reason
@json_option
def unhold(model: str | None, reason: str) -> None:
    """Lift a hold."""
    emit(connect().post("/model/unhold", {"model": model, "reason": reason}), _show_slots)


@click.command(epilog=examples("refit history fraud", "refit history fraud --at 2026-11-21T03:00"))
@model_argument
@click.option("--at", help="What was live then, and on whose say: ISO 8601, UTC unless it says otherwise.")
@limit_option
@json_option
def history(model: str | None, at: str | None, limit: int) -> None:
    """Every change of the slots: who was active when, and on whose say.

    With --at what was live at that time, of every model unless one is named.
    """
    found = connect().pages("/model/history", limit, model=model, at=_instant(at))
    if at is not None:
        emit(found, _show_in_force)
        return
    headers = ("at", "action", "active", "standby", "generation", "by", "reason")
    emit(found, lambda rows: table(headers, map(_history_row, rows)))


def show_receipts(answer: Json) -> None:
    receipts = [(r["host"], r["id"], r["served"], _milliseconds(r["took_ms"])) for r in answer["replicas"]]
    table(("host", "replica", "generation", "took"), receipts)


def _conclude(answer: Json, done: str) -> None:
    """Raises Failure where replicas owe a receipt: the swap is committed, and not yet true everywhere."""
    owing = answer["missing"]
    failure = Failure(
        f"The swap is committed, but these replicas have given no receipt yet: {', '.join(owing)}.",
        Exit.TIMED_OUT,
        remedy="They follow by themselves. Look again: refit slots",
        document=answer,
    )
    if not (owing and wants_json()):
        emit(answer, show_receipts)
    did = done if answer["changed"] else "as it was"
    say(f"{answer['model']}: {did}; version {answer['active']} is active, generation {answer['generation']}")
    if owing:
        raise failure


def _show_slots(slots: Json) -> None:
    watched = slots["watch_until"] if slots["watch_until"] and _is_ahead(slots["watch_until"]) else None
    fields = {
        "model": slots["model"],
        "active": slots["active"],
        "standby": slots["standby"],
        "previous": slots["previous"],
        "generation": slots["generation"],
        "settled": slots["settled"],
        "held": slots["hold_reason"],
        "watched until": watched,
    }
    record(fields)
    click.echo()
    replicas = [(r["host"], r["pid"], r["id"], r["served"], r["warm"], r["error"]) for r in slots["replicas"]]
    table(("host", "pid", "replica", "generation", "warm", "error"), replicas)


def _show_in_force(rows: list[Json]) -> None:
    headers = ("model", "active", "since", "by", "reason", "standby", "held")
    table(headers, map(_in_force_row, rows))


def _in_force_row(row: Json) -> tuple[Any, ...]:
    said = row["made_active"] or dict.fromkeys(("at", "actor", "reason"))
    shown = (row["model"], row["active"], said["at"], said["actor"], said["reason"])
    return (*shown, row["standby"], row["hold_reason"])


def _history_row(change: Json) -> tuple[Any, ...]:
    names = ("at", "action", "active", "standby", "generation", "actor", "reason")
    return tuple(change[name] for name in names)


def _instant(given: str | None) -> str | None:
    """Raises UsageError for what is no time. The service wants a time zone; without one UTC is meant."""
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise click.BadParameter(f"{given!r} is no time such as 2026-11-21T03:00.", param_hint="--at") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _is_ahead(at: str) -> bool:
    return datetime.fromisoformat(at) > datetime.now(UTC)


def _milliseconds(took: float | None) -> str | None:
    return None if took is None else f"{took:.1f} ms"
