"""A change record and release notes as Markdown: pure functions of their JSON.

Nothing that somebody wrote can become markup."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.records.notes import TITLES
from app.records.sections import SECTIONS

MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~!&])")
# What begins a list, a rule or a heading where it stands at the beginning of a line.
BEGINS = re.compile(r"^(\d{0,9})([-+.)=])(?=\s|$|\2)")
NOTHING = "–"
# What a reader looks for first; Postgres keeps no order of keys.
FIRST = ("at", "id", "name", "code", "action", "verdict", "candidate", "incumbent", "delta", "requirement", "actor")


def markdown(record: Mapping[str, Any]) -> str:
    """`record` as `change_record` gives it, of JSON values only."""
    version = f" v{record['version']}" if record["version"] else ""
    head = f"# {text(record['model'])}{version}: change record of job {record['job_id']}"
    parts = [head, f"Written {record['written_at']}."]
    for name, title, _ in SECTIONS:
        parts += [f"## {title}", *(block(record[name]) if record[name] else ["Nothing to tell."])]
    return "\n\n".join(parts) + "\n"


def notes_markdown(notes: Mapping[str, Any]) -> str:
    """`notes` as `release_notes` gives them, of JSON values only."""
    head = f"# {text(notes['model'])} v{notes['version']}: release notes"
    judged = f"Made by job {notes['job_id']} at {notes['created_at']}. The gate: {text(notes['verdict'])}"
    parts = [head, f"{judged}, {text(notes['reason'])}" if notes["reason"] else f"{judged}."]
    for name, title in TITLES.items():
        parts += [f"## {title}", *(_part(notes[name]) if notes[name] else ["Nothing to tell."])]
    return "\n\n".join(parts) + "\n"


def _part(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield "\n".join(f"- {text(each)}" for each in value)
    else:
        yield from block(value)


def text(value: Any) -> str:
    """A JSON value on one line, with all that Markdown or HTML would read made plain."""
    if value is None or value in ([], {}, ""):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{text(name)} {text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(text(inner) for inner in value)
    return BEGINS.sub(r"\1\\\2", MARKUP.sub(r"\\\1", " ".join(str(value).split())))


def block(value: Mapping[str, Any], level: int = 3) -> Iterator[str]:
    """Plain fields as one list, then what has parts of its own, each under a heading."""
    plain = {name: inner for name, inner in value.items() if not _has_parts(inner)}
    if plain:
        yield "\n".join(f"- **{_named(name)}**: {text(inner)}" for name, inner in plain.items())
    for name, inner in value.items():
        if _has_parts(inner):
            yield f"{'#' * min(level, 6)} {_named(name)}"
            yield from [_table(inner)] if isinstance(inner, list) else block(inner, level + 1)


def _has_parts(value: Any) -> bool:
    """Rows make a table; an object whose values have parts is a block of its own, any other fits on a line."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(row, Mapping) for row in value)
    return isinstance(value, Mapping) and any(isinstance(inner, Mapping | list) for inner in value.values())


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    named = list(dict.fromkeys(name for row in rows for name in row))
    columns = [*(name for name in FIRST if name in named), *(name for name in named if name not in FIRST)]
    lines = [" | ".join(map(_named, columns)), " | ".join("---" for _ in columns)]
    lines += [" | ".join(text(row.get(name)) for name in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _named(name: str) -> str:
    return text(name.replace("_", " "))
