"""A file of labels, sent in parts. What is told of an item names its line, and what of the file is kept already."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.client import Api, Json
from app.cli.failures import Exit, Failure
from app.cli.progress import counted
from app.cli.sendable import flaw

AT_ONCE = 10_000
OUTCOMES = ("accepted", "joined", "duplicate", "corrected", "pending")
# An item as the service names it: by its place in what it was sent.
PLACE = re.compile(r"\bfeedback\.(\d{1,6})\b\.?")


@dataclass(frozen=True)
class Item:
    """What stands in line `line` of the file, counted from 1."""

    line: int
    told: Any


def read_items(file: Path) -> list[Item]:
    """Raises Failure naming the first line that is no JSON."""
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    return [Item(line, _parsed(file, line, text)) for line, text in enumerate(raw.splitlines(), 1) if text.strip()]


def send_items(api: Api, file: Path, model: str | None, items: Sequence[Item]) -> dict[str, int]:
    """How many became what. Raises Failure naming the line, and how many items before it are kept."""
    total = dict.fromkeys(OUTCOMES, 0)
    with counted("labels", len(items)) as show:
        for start in range(0, len(items), AT_ONCE):
            part = items[start : start + AT_ONCE]
            try:
                told = api.post("/feedback", {"model": model, "feedback": [item.told for item in part]})
            except Failure as failure:
                raise _in_file(failure, file, part, start, len(items)) from None
            total = {name: n + int(told.get(name, 0)) for name, n in total.items()}
            show(start + len(part))
    return total


def _parsed(file: Path, line: int, text: bytes) -> Any:
    try:
        told = json.loads(text)
    except RecursionError:
        why = "it is nested too deep"
    except json.JSONDecodeError as error:
        why = f"{error.msg} (character {error.colno})"
    except ValueError as error:
        why = str(error)
    else:
        found = flaw(told)
        if found is None:
            return told
        why = found
    raise Failure(f"{file}, line {line}, is not JSON: {why}.", Exit.USAGE, remedy="Nothing was sent.")


def _in_file(failure: Failure, file: Path, part: Sequence[Item], kept: int, all: int) -> Failure:
    """By the lines of the file, with what a person must know to go on."""
    told = _by_line(failure.document, part)
    if "status" in told:
        failure = type(failure).of_problem(told)
    remedy = f"{kept} of {all} items were sent and kept before that." if kept else "Nothing was kept before that."
    again = "The whole file can be sent again: the same items change nothing."
    remedy = " ".join(filter(None, (failure.remedy, remedy, again)))
    document = {**told, "remedy": remedy, "kept": kept}
    return Failure(f"{file}: {failure.message}", failure.exit, remedy=remedy, document=document)


def _by_line(problem: Mapping[str, Any], part: Sequence[Item]) -> Json:
    errors = [
        {name: _with_lines(value, part) if name == "field" else value for name, value in error.items()}
        for error in problem.get("errors", ())
    ]
    detail = _with_lines(problem.get("detail", ""), part)
    return {**problem, "detail": detail} | ({"errors": errors} if errors else {})


def _with_lines(told: Any, part: Sequence[Item]) -> str:
    return PLACE.sub(lambda found: _line(found, part), str(told))


def _line(found: re.Match[str], part: Sequence[Item]) -> str:
    place = int(found[1])
    if place >= len(part):
        return found[0]
    return f"line {part[place].line}" + (", " if found[0].endswith(".") else "")
