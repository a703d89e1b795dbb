"""Rows of a file (CSV, JSONL, JSON) as `/predict/batch` takes them, and back again with their predictions."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from app.cli.failures import Exit, Failure

Format = Literal["csv", "jsonl", "json"]
Written = Literal["csv", "jsonl"]
Row = dict[str, Any] | list[Any] | str

SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
WHOLE = re.compile(r"\s*[+-]?\d+\s*")
# What Arrow takes for a missing value in the CSV files that are trained on.
MISSING = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null",
))  # fmt: skip


def format_of(file: Path) -> Format:
    """By the suffix. Raises Failure where that says nothing, as on stdin."""
    if file.suffix.lower() not in SUFFIXES:
        raise Failure(f"The format of {file} is not known.", Exit.USAGE, remedy="Name it: --format csv, jsonl or json.")
    return SUFFIXES[file.suffix.lower()]


@dataclass(frozen=True)
class Rows:
    """`values` are what the model reads; `read` is what stood in the file, which of a CSV file is text."""

    read: Sequence[Row]
    values: Sequence[Row]


def read_rows(file: Path, format: Format, categorical: Collection[str]) -> Rows:
    """Every row. Raises Failure naming the line that is wrong."""
    try:
        with click.open_file(str(file), encoding="utf-8-sig") as opened:
            rows = _parsed(opened.read(), format, categorical)
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8 (byte {error.start}).", Exit.USAGE) from None
    except (ValueError, csv.Error) as error:
        raise Failure(f"{file} cannot be read as {format}: {error}.", Exit.USAGE) from None
    if not rows.read:
        raise Failure(f"{file} has no rows.", Exit.USAGE)
    return rows


def write_rows(rows: Iterator[dict[str, Any]], format: Written) -> None:
    """To stdout, each as it comes."""
    if format == "jsonl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    header: list[str] = []
    for row in rows:
        if not header:
            header = list(row)
            click.echo(_line(header))
        click.echo(_line([row.get(name) for name in header]))


def _parsed(text: str, format: Format, categorical: Collection[str]) -> Rows:
    if format == "csv":
        texts = list(_csv(text))
        return Rows(texts, list(_typed(texts, categorical)))
    rows = list(_json(text) if format == "json" else _jsonl(text))
    return Rows(rows, rows)


def _typed(rows: Sequence[dict[str, str]], categorical: Collection[str]) -> Iterator[Row]:
    """Cells typed by their column, as Arrow types the CSV files that are trained on."""
    types = {name: _type(name, rows, categorical) for name in (rows[0] if rows else ())}
    for row in rows:
        yield {name: None if cell in MISSING else types[name](cell) for name, cell in row.items()}


def _type(name: str, rows: Sequence[dict[str, str]], categorical: Collection[str]) -> Callable[[str], Any]:
    """Whole numbers, numbers, or text. A name may be a whole number, and no other."""
    cells = [row[name] for row in rows if row[name] not in MISSING]
    if all(map(WHOLE.fullmatch, cells)):
        return int
    return _number if name not in categorical and all(map(NUMBER.fullmatch, cells)) else str


def _csv(text: str) -> Iterator[dict[str, str]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    header = next(reader, [])
    if len(set(header)) < len(header):
        raise ValueError("the header names a column twice")
    for cells in filter(None, reader):
        if len(cells) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(cells)} cells, and the header {len(header)}")
        yield dict(zip(header, cells, strict=True))


def _number(cell: str) -> float:
    if math.isinf(value := float(cell)):
        raise ValueError(f"{cell} is too large for a number")
    return value


def _jsonl(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _row(_loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def _json(text: str) -> Iterator[Row]:
    """A list of rows, or the body of a request with its `instances`."""
    told = _loads(text)
    rows = told.get("instances") if isinstance(told, dict) else told
    if not isinstance(rows, list):
        raise ValueError("expected a list of rows, or an object with `instances`")  # noqa: TRY004 - told as the others
    yield from map(_row, rows)


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON knows no {name}; a missing value is null")


def _row(value: Any) -> Row:
    if not isinstance(value, dict | list | str):
        raise ValueError("a row is an object, a list or a text")  # noqa: TRY004 - ditto
    return value


def _line(cells: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["" if cell is None else cell for cell in cells])
    return line.getvalue()
