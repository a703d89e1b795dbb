"""Rows that were posted to `POST /data/samples`, in the order in which each key was first received."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import orjson
import pyarrow as pa
from sqlalchemy import ColumnElement, DateTime, Numeric, case, cast, func, select

from app.data.columns import has_times
from app.data.sources import ROW_ORDER, Reading, SourceOptions
from app.data.sources._rows import table_of, unify
from app.data.tables import Sample
from app.data.times import parse

CHUNK = 20_000


class Options(SourceOptions):
    source: Literal["samples"]


async def read(options: Options, reading: Reading) -> pa.Table:  # noqa: ARG001 - what is read is the model's own
    """Also has the column '@row': the place of the row, which a row posted again under its key keeps."""
    query = select(Sample.id, Sample.row).where(Sample.model == reading.model).order_by(Sample.id)
    rows = await reading.session.stream(query.execution_options(yield_per=CHUNK))
    chunks = [_table(list(part)) async for part in rows.partitions()]
    names = dict.fromkeys(name for chunk in chunks for name in chunk.column_names)
    return unify([("the samples", _with(chunk, names)) for chunk in chunks] or [("the samples", pa.table({}))])


async def count(options: Options, reading: Reading) -> int:
    """Rows newer than `reading.since` by the time column; without one, than the number of rows it is."""
    query = select(func.count()).where(Sample.model == reading.model)
    if reading.since is None:
        return await reading.session.scalar(query) or 0
    if has_times(options) and options.time:
        return await reading.session.scalar(query.where(_newer(options.time, reading.since))) or 0
    return max(0, (await reading.session.scalar(query) or 0) - int(float(reading.since)))


def _newer(time: str, since: str) -> ColumnElement[bool]:
    """Values that are no number, or no text, are not newer: CASE keeps Postgres from casting them."""
    mark, value = parse(since), Sample.row[time]
    if isinstance(mark, datetime):
        moment = cast(value.astext, DateTime(timezone=mark.tzinfo is not None))
        return case((func.jsonb_typeof(value) == "string", moment > mark), else_=False)
    return case((func.jsonb_typeof(value) == "number", cast(value.astext, Numeric) > mark), else_=False)


def _table(part: Sequence[Any]) -> pa.Table:
    """Rows may name different columns; what a row does not name is null."""
    names = list(dict.fromkeys(name for _, row in part for name in row))
    values = [[place, *(_flat(row.get(name)) for name in names)] for place, row in part]
    return table_of([ROW_ORDER, *names], values, "the samples")


def _flat(value: Any) -> Any:
    """Messages as JSON: one row may have a list of them where another one has a text."""
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value


def _with(chunk: pa.Table, names: Iterable[str]) -> pa.Table:
    for name in names:
        if name not in chunk.column_names:
            chunk = chunk.append_column(name, pa.nulls(chunk.num_rows))
    return chunk
