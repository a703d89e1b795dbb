"""The text columns of a row → its one text. Training, the gate and serving compose alike."""

import string
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from app.runtimes import Batch
from app.runtimes.schema import TextInput

Parts = tuple[tuple[str, str | None], ...]  # what stands before a column, and the column's name; None behind the last


@lru_cache
def parts_of(template: str) -> Parts:
    """The template taken apart. Raises ValueError for anything but {column}: it is filled in, never executed."""
    parts = []
    for before, name, format_spec, conversion in string.Formatter().parse(template):
        if name is not None and (format_spec or conversion or not name):
            raise ValueError("a template has column names in braces, such as {title}, and nothing else in them")
        parts.append((before, name))
    return tuple(parts)


def compose(template: str, names: Sequence[str], columns: Sequence[Sequence[str | None]]) -> list[str]:
    """The text of each row; `names` are those of the `columns`. "" where no column of the row says anything."""
    parts, places = parts_of(template), {name: i for i, name in enumerate(names)}
    return [_composed(parts, places, row) for row in zip(*columns, strict=True)]


def fault(text: str, rule: TextInput) -> str | None:
    """What is wrong with a composed text, as the end of a sentence that begins with its row."""
    if not text:
        return "has no text"
    if not text.isascii() and not _is_unicode(text):
        return "has a text that is not valid Unicode"
    if len(text) > rule.longest:
        return f"has a text of {len(text)} characters; at most {rule.longest} are read"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def batch_of(composed: Iterable[str]) -> Batch:
    texts = np.array(list(composed), np.object_)
    return Batch(np.empty((len(texts), 0), np.float32), np.empty((len(texts), 0), np.object_), texts)


def _composed(parts: Parts, places: dict[str, int], row: Sequence[str | None]) -> str:
    said = [(cell or "").strip() for cell in row]
    if not any(said):
        return ""
    return "".join(before + (said[places[name]] if name else "") for before, name in parts).strip()
