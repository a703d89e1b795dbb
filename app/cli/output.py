"""What commands print: stdout is data (tables for people, JSON under --json), stderr is talk."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

JSON = "refit.json"
UNKNOWN = "–"

# Wide enough that a pipe never gets a wrapped or shortened cell.
PIPE_WIDTH = 10_000
STYLES: Mapping[str, str] = {
    "pass": "green",
    "completed": "green",
    "ok": "green",
    "fail": "red",
    "failed": "red",
    "P1": "red",
    "inconclusive": "yellow",
    "warn": "yellow",
    "cancelled": "yellow",
    "running": "cyan",
    "not_applicable": "dim",
    UNKNOWN: "dim",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

Value = TypeVar("Value")


def _remember(context: click.Context, _: click.Parameter, chosen: bool) -> None:
    context.meta[JSON] = context.meta.get(JSON, False) or chosen


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember,
    help="Answer on stdout in JSON, errors too.",
)


def wants_json() -> bool:
    return bool(click.get_current_context().meta.get(JSON))


def as_json(value: Any, *, indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def emit(value: Value, show: Callable[[Value], None]) -> None:
    """The answer of a command, once: as JSON where that is wanted, else as `show` prints it."""
    if wants_json():
        click.echo(as_json(value))
    else:
        show(value)


def say(line: str) -> None:
    """Talk, on stderr."""
    click.echo(printable(line), err=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, indent: int = 0) -> None:
    """Aligned columns on stdout; colours on a terminal only."""
    from rich.console import Console  # noqa: PLC0415 - 70 ms that nobody waits for under --json
    from rich.padding import Padding  # noqa: PLC0415 - ditto
    from rich.table import Table  # noqa: PLC0415 - ditto
    from rich.text import Text  # noqa: PLC0415 - ditto

    shown = Table(box=None, pad_edge=False, show_header=any(headers), header_style="bold")
    for header in headers:
        shown.add_column(header)
    for row in rows:
        cells = [told(value) for value in row]
        shown.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with console.capture() as captured:
        console.print(Padding(shown, (0, 0, 0, indent), expand=False))
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def record(fields: Mapping[str, Any]) -> None:
    """One thing, a line a field; what is not known is left out."""
    table(("", ""), [(name, value) for name, value in fields.items() if value not in (None, "", [], {})])


def told(value: Any) -> str:
    """A JSON value as people read it. Times are UTC."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return _told_time(value) if isinstance(value, str) and TIME.fullmatch(value) else printable(str(value))


def printable(text: str) -> str:
    """Without control characters: a note or a log line must not steer the terminal."""
    return CONTROL.sub("", text)


def share(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def _told_time(value: str) -> str:
    return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
