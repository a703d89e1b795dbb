from pathlib import Path

import click

from app.cli.arguments import Number, examples, file_argument, limit_option, model_argument, model_option
from app.cli.client import Json, connect
from app.cli.labels import read_items, send_items
from app.cli.output import emit, json_option, record, say, table


@click.group()
def report() -> None:
    """Tell Refit what became of its answers: labels, learning cycles, metrics; and read what was told."""


@report.command(epilog=examples("refit report feedback labels.jsonl -m fraud"))
@file_argument
@model_option
@json_option
def feedback(file: Path, model: str | None) -> None:
    """Send labels: a JSON object a line, {request_id, row?, head?, label} or {request_id, row?, accepted}.

    Where it breaks off, send the whole file again: the same items change nothing.
    """
    items = read_items(file)
    if not items:
        say(f"nothing to send: {file} has no items")
    emit(send_items(connect(), file, model, items), record)


@report.command(epilog=examples("refit report learning 0.55 -m fraud --cycle 12"))
@click.argument("accept_rate", type=Number(0, 1))
@model_option
@click.option("--cycle", help="Its number or name; told again, it adds nothing.")
@json_option
def learning(accept_rate: float, model: str | None, cycle: str | None) -> None:
    """Tell the accept rate of one learning cycle."""
    told = connect().post("/metrics/learning", {"model": model, "accept_rate": accept_rate, "cycle": cycle})
    emit(told, lambda answer: click.echo(answer["id"]))
    if told["replayed"]:
        say(f"cycle {cycle} was known before; nothing was added")


@report.command(epilog=examples("refit report metric bleu 0.31 -m fraud --version 7"))
@click.argument("name")
@click.argument("value", type=Number())
@model_option
@click.option("--version", type=click.IntRange(1), help="Of which it was measured.")
@click.option("--n", type=click.IntRange(0), help="Of how many it is the mean.")
@json_option
def metric(name: str, value: float, model: str | None, version: int | None, n: int | None) -> None:
    """Tell one value of a metric."""
    point = {"name": name, "value": value, "version": version, "n": n}
    emit(connect().post("/metrics/observations", {"model": model, "observations": [point]}), record)


@report.command("show", epilog=examples("refit report show fraud"))
@model_argument
@limit_option
@json_option
def show_report(model: str | None, limit: int) -> None:
    """What was told: feedback of the last day by what became of it, and the last learning cycles and metrics."""
    api = connect()
    found = {
        "feedback": api.get("/feedback", model=model),
        "learning": api.pages("/metrics/learning", limit, model=model),
        "metrics": api.pages("/metrics/observations", limit, model=model),
    }
    emit(found, _show)


@report.command("logged", epilog=examples("refit report logged fraud", "refit report logged --json | jq '.[].rows'"))
@model_argument
@limit_option
@json_option
def show_logged(model: str | None, limit: int) -> None:
    """The requests that were kept as they came: the share that the definition's logging.sample asks for."""
    found = connect().pages("/predictions/log", limit, model=model)
    columns = ("at", "request", "version", "slot", "rows")
    emit(
        found,
        lambda kept: table(
            columns, [(r["at"], r["request_id"], r["version"], r["slot"], len(r["rows"])) for r in kept]
        ),
    )
    if not found:
        say("none was kept; the definition's logging.sample says which share is")


def _show(found: Json) -> None:
    record(found["feedback"])
    click.echo()
    cycles = [(c["at"], c["cycle"], c["accept_rate"], c["sender"]) for c in found["learning"]]
    table(("at", "cycle", "accept rate", "by"), cycles)
    click.echo()
    points = [(p["at"], p["name"], p["version"], p["value"], p["n"], p["source"]) for p in found["metrics"]]
    table(("at", "metric", "version", "value", "n", "source"), points)
