"""Samples as they are posted: all rows are looked at before any is kept; a bad one names its row and column."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from app.data.chats import ChatOptions
from app.data.columns import RESERVED, has_times
from app.data.conversations import Fault, of_row
from app.data.sources import SourceOptions
from app.errors import MOST_ERRORS, Invalid, told_name
from app.runtimes.texts import compose, fault

INT64 = 1 << 63
# What Arrow, Postgres and Python all take for a moment.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")

Row = Mapping[str, Any]


def checked(rows: Sequence[Row], data: SourceOptions, *, need_label: bool = True) -> list[tuple[str, bytes]]:
    """(key, JSON) of each row; without `need_label` somebody else gives the labels.

    Raises Invalid `invalid_rows` with errors such as {field: rows.3.amount, message}.
    """
    errors = [error for place, row in enumerate(rows) for error in _errors(place, row, data, need_label)]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise Invalid(
            f"Nothing was accepted: {errors[0]['field']} {errors[0]['message']}{more}.",
            code="invalid_rows",
            errors=errors[:MOST_ERRORS],
        )
    return [(key_of(row, data), orjson.dumps(row)) for row in rows]


def key_of(row: Row, data: SourceOptions) -> str:
    """The key's text; without a key the digest of the row, so that a row that is sent twice is one row."""
    if data.key is None:
        return hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()
    value = row[data.key]
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _errors(place: int, row: Row, data: SourceOptions, need_label: bool) -> Iterator[dict[str, str]]:
    if data.chat is not None:
        yield from _chat_errors(place, row, data.chat)
    elif need_label and all(row.get(name) is None for name in data.label_columns):
        yield {"field": f"rows.{place}.{data.label_columns[0]}", "message": "is missing; it is the label"}
    for name, needed in {data.key: "the key", _time(data): "the time"}.items():
        if name is not None and row.get(name) is None:
            yield {"field": f"rows.{place}.{name}", "message": f"is missing; it is {needed}"}
    yield from _text_errors(place, row, data)
    time = _time(data)
    nested = () if data.chat is None else data.chat.source_columns
    for name, value in row.items():
        problem = _name_problem(name) or (_nested_problem(value) if name in nested else _problem(value))
        if problem is None and name == time:
            problem = _time_problem(value)
        if problem is not None:
            yield {"field": f"rows.{place}.{told_name(name)}", "message": problem}


def _text_errors(place: int, row: Row, data: SourceOptions) -> Iterator[dict[str, str]]:
    """What `columns.require_texts` would refuse once a data version is taken: who posts it can mend it."""
    for name, known in data.known_labels.items():
        if row.get(name) is not None and row[name] not in known:
            yield {"field": f"rows.{place}.{name}", "message": "is none of data.labels"}
    if data.text is None:
        return
    cells = [row.get(name) for name in data.text.columns]
    for name, cell in zip(data.text.columns, cells, strict=True):
        if not isinstance(cell, str | None):
            yield {"field": f"rows.{place}.{name}", "message": "is no text"}
            return
    (text,) = compose(data.text.effective_template, data.text.columns, [[cell] for cell in cells])
    problem = fault(text, data.text.rule) if text or data.text.empty == "refuse" else None
    if problem is not None:
        yield {"field": f"rows.{place}.{data.text.columns[0]}", "message": problem}


def _chat_errors(place: int, row: Row, chat: ChatOptions) -> Iterator[dict[str, str]]:
    """What `conversations.canonical` would refuse once a data version is taken."""
    lacking = [name for name in chat.source_columns if row.get(name) is None]
    if lacking:
        yield {"field": f"rows.{place}.{lacking[0]}", "message": "is missing; it is of the conversation"}
        return
    names = [*chat.source_columns, *([chat.system] if chat.system else [])]
    try:
        of_row({name: row.get(name) for name in names}, chat)
    except Fault as found:
        yield {"field": f"rows.{place}.{found.column}", "message": f"is no conversation: {found.told}"}


def _time(data: SourceOptions) -> str | None:
    return data.time if has_times(data) else None


def _problem(value: Any) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number; send null where there is none"
    if isinstance(value, int):
        return None if -INT64 <= value < INT64 else "does not fit into 64 bits"
    if isinstance(value, str):
        return _text_problem(value)
    if value is None:
        return None
    return "is not flat: a value is text, a number, true, false or null"


def _nested_problem(value: Any) -> str | None:
    """Of a column of conversations, in which messages stand as they are: the first problem of any of their texts."""
    if not isinstance(value, list):
        return _problem(value)
    messages = [message for message in value if isinstance(message, dict)]
    texts = [text for message in messages for text in (*message.keys(), *message.values())]
    return next((told for told in map(_problem, texts) if told is not None), None)


@lru_cache
def _name_problem(name: str) -> str | None:
    return "is a reserved name" if name in RESERVED else _text_problem(name)


def _text_problem(value: str) -> str | None:
    if "\0" in value:
        return "has a NUL character"
    return None if value.isascii() or _is_unicode(value) else "is not valid Unicode"


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time_problem(value: Any) -> str | None:
    """`value` is flat. Null was told already."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None
    if isinstance(value, str) and MOMENT.fullmatch(value) and _is_moment(value):
        return None
    return "is neither a number nor a time such as 2024-05-31T08:00:00Z"


def _is_moment(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
