"""Columns: which of them are there, what they mean, and the few types that Refit keeps."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from app.data import texts
from app.data.sources import ROW_ORDER, SourceOptions
from app.errors import Invalid

SPLIT = "__split"
RESERVED = frozenset({SPLIT, ROW_ORDER})
NAMED_ROWS = 3

# `empty`: no value was ever seen, so it may turn out to be any of the others.
Kind = Literal["number", "text", "moment", "empty", "other"]


def kind_of(dtype: pa.DataType) -> Kind:
    if pa.types.is_null(dtype):
        return "empty"
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_boolean(dtype):
        return "number"
    if pa.types.is_string(dtype):
        return "text"
    return "moment" if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype) else "other"


def plain(table: pa.Table) -> pa.Table:
    """The same rows in fewer types: every kind of text is string, a decimal is float64; no metadata.

    So that the same content is the same snapshot, whichever library wrote the file it comes from.
    """
    fields = [field.with_type(_plain_type(field.type)).remove_metadata() for field in table.schema]
    return table.cast(pa.schema([field.with_nullable(True) for field in fields]), safe=False)


def _plain_type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(dtype):
        return _plain_type(dtype.value_type)
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return pa.string()
    if pa.types.is_decimal(dtype):
        return pa.float64()
    return pa.float32() if pa.types.is_float16(dtype) else dtype


def require(names: Iterable[str], existing: Sequence[str], where: str = "data") -> None:
    """Raises Invalid `column_missing` naming the first that is missing and what comes nearest to it.

    `where` says who asks for the column, such as `data.label`.
    """
    missing = next((name for name in names if name not in existing), None)
    if missing is None:
        return
    near = difflib.get_close_matches(missing, existing, n=3, cutoff=0.5)
    there = f"The nearest are: {', '.join(near)}." if near else f"There are: {', '.join(existing[:30])}."
    raise Invalid(f"{where} names the column {missing!r}, which is not there.", code="column_missing", remedy=there)


def require_roles(options: SourceOptions, existing: Sequence[str]) -> None:
    """Every column that the definition names is there; a typo in `ignore` would train on a leak."""
    reserved = sorted(RESERVED & set(existing) - {ROW_ORDER})
    if reserved:
        raise Invalid(f"A column may not be called {reserved[0]!r}.", code="column_reserved", remedy="Rename it.")
    require(options.label_columns, existing, "data.label")
    require([options.key] if options.key else [], existing, "data.key")
    require([options.time] if has_times(options) and options.time else [], existing, "data.time")
    require(options.text.columns if options.text else [], existing, "data.text.columns")
    for role in ("features", "ignore", "categorical"):
        require(getattr(options, role) or [], existing, f"data.{role}")


def has_times(options: SourceOptions) -> bool:
    """Whether a column says when a row came to be; the order of the rows is none."""
    return options.time not in (None, ROW_ORDER)


def beside_conversations(options: SourceOptions, existing: Sequence[str]) -> list[str]:
    """What is kept with conversations: a stage, a risk, whatever is not ignored. By name: sources keep no order."""
    others = {*options.label_columns, *(options.feature_columns or ()), options.key, options.time, *options.ignore}
    return sorted(set(existing) - others - RESERVED) if options.chat is not None else []


def features_of(options: SourceOptions, existing: Sequence[str]) -> tuple[str, ...]:
    """The features by name, in the order of the definition or else of the source."""
    if options.feature_columns is not None:
        return tuple(options.feature_columns)
    others = {*options.label_columns, options.key, options.time, *options.ignore, *RESERVED}
    return tuple(name for name in existing if name not in others)


def require_readable(table: pa.Table, labels: Sequence[str], features: Sequence[str]) -> None:
    """Raises Invalid `column_type` for a label or feature that is neither number, text nor true/false."""
    if not features:
        raise Invalid("No column is left to be a feature.", code="column_missing", remedy="Look at data.ignore.")
    for name in (*labels, *features):
        dtype = table.schema.field(name).type
        if kind_of(dtype) in ("moment", "other"):
            raise Invalid(
                f"Column {name!r} is {dtype}; labels and features are numbers, text or true/false.",
                code="column_type",
                remedy="Add it to data.ignore, or turn it into a number or text in the source.",
            )


def require_kept(table: pa.Table, names: Sequence[str]) -> None:
    """Raises Invalid `column_type` for what stands beside conversations and no snapshot can keep in order."""
    for name in names:
        dtype = table.schema.field(name).type
        if kind_of(dtype) == "other":
            raise Invalid(
                f"Column {name!r} is {dtype}; beside conversations numbers, text, times and true/false are kept.",
                code="column_type",
                remedy="Add it to data.ignore, or turn it into text in the source.",
            )


def require_slices(table: pa.Table, names: Sequence[str]) -> None:
    """Raises Invalid `column_missing` or `column_type` for a slice of the gate that would cut nothing."""
    require(names, table.column_names, "gate.slices")
    for name in names:
        dtype = table.schema.field(name).type
        if kind_of(dtype) in ("moment", "other"):
            raise Invalid(
                f"gate.slices names the column {name!r}, which is {dtype}; slices are of numbers, text or true/false.",
                code="column_type",
                remedy="Name another column, or make one in the source, such as the hour of the day.",
            )


def require_texts(table: pa.Table, data: SourceOptions) -> None:
    """Raises Invalid `label_unknown`, `column_type`, `text_missing` or `text_too_long`, naming the first rows."""
    for name, known in data.known_labels.items():
        found = Counter(table[name].drop_null().to_pylist())
        if unknown := sorted((value for value in found if value not in known), key=str):
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise Invalid(
                f"Column {name!r} has the label {unknown[0]!r}{more}, which data.labels does not know.",
                code="label_unknown",
                remedy="Add it to data.labels, or mend the rows in the source.",
                labels=unknown[:NAMED_ROWS],
            )
    if data.text is None:
        return
    for name in data.text.columns:
        if not pa.types.is_string(table.schema.field(name).type) and not pa.types.is_null(
            table.schema.field(name).type
        ):
            raise Invalid(
                f"Column {name!r} is {table.schema.field(name).type}, and data.text reads text.",
                code="column_type",
                remedy="Cast it to text in the source, or leave it out of data.text.columns.",
            )
    composed = texts.of(table, data.text)
    if data.text.empty == "refuse" and not all(composed):
        rows = [row for row, text in enumerate(composed) if not text]
        remedy = "Mend them in the source; data.text.empty 'drop' leaves such rows out and counts them."
        raise rows_refused(table, data, rows, "no text", "text_missing", remedy)
    if long := [row for row, text in enumerate(composed) if len(text) > data.text.longest]:
        told = f"a text of {len(composed[long[0]])} characters, and {data.text.longest} are allowed"
        remedy = "Shorten them in the source, or raise data.text.longest."
        raise rows_refused(table, data, long, told, "text_too_long", remedy)


def missing(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Boolean, one a row: no value there. A NaN is no value."""
    return pc.is_null(column, nan_is_null=True) if column.num_chunks else pa.chunked_array([], pa.bool_())


def rows_refused(
    table: pa.Table, data: SourceOptions, rows: Sequence[int], has: str, code: str, remedy: str
) -> Invalid:
    """Names the first of them by their keys, or by their places in the source."""
    named = [f"{data.key} {table[data.key][row].as_py()!r}" if data.key else f"row {row}" for row in rows[:NAMED_ROWS]]
    more = f"; {len(rows) - len(named)} more rows are so" if len(rows) > len(named) else ""
    return Invalid(f"{', '.join(named)}: there is {has}{more}.", code=code, remedy=remedy, rows=list(rows[:NAMED_ROWS]))
