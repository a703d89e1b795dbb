"""Rows of Python values and tables in parts → one Arrow table, or an error that names the column."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from app.data.columns import plain
from app.errors import Invalid

# What databases answer with and Arrow would keep in a type of its own.
CONVERT: dict[type, Callable[[Any], Any]] = {Decimal: float, uuid.UUID: str}


def table_of(names: Sequence[str], rows: Sequence[Sequence[Any]], where: str) -> pa.Table:
    """`rows` have their values in the order of `names`; null is None. Raises Invalid `column_type` for mixed types."""
    _once(names, where)
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return pa.table({name: _array(name, values, where) for name, values in zip(names, columns, strict=True)})


def unify(parts: Sequence[tuple[str, pa.Table]]) -> pa.Table:
    """One table of all parts, each with the name of where it comes from; their columns may differ in order.

    Whole numbers and fractions become fractions. Raises Invalid `columns_differ` naming part and column.
    """
    for where, table in parts:
        _once(table.column_names, where)
    parts = [(where, plain(table)) for where, table in parts]
    first, names = parts[0][0], parts[0][1].column_names
    for where, table in parts[1:]:
        for name in sorted(set(names) ^ set(table.column_names)):
            lacks, has = (where, first) if name in names else (first, where)
            raise _differ(f"{lacks} has no column {name!r}, {has} has one")
    try:
        return pa.concat_tables([table for _, table in parts], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise _first_difference(parts) from error


def _once(names: Sequence[str], where: str) -> None:
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise Invalid(f"{where} has the column {twice!r} twice.", code="column_twice", remedy="Rename one of them.")


def _first_difference(parts: Sequence[tuple[str, pa.Table]]) -> Invalid:
    for name in parts[0][1].column_names:
        known = parts[0][1].schema.field(name)
        for where, table in parts[1:]:
            field = table.schema.field(name)
            try:
                known = pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive").field(
                    0
                )
            except pa.ArrowTypeError:
                return _differ(f"{where}: column {name!r} is {field.type}, and {known.type} before it")
    raise AssertionError("the parts were said to differ")


def _differ(what: str) -> Invalid:
    remedy = "Give every part the same columns with the same types."
    return Invalid(f"The data does not fit together: {what}.", code="columns_differ", remedy=remedy)


def _array(name: str, values: Sequence[Any], where: str) -> pa.Array:
    convert = CONVERT.get(next((type(v) for v in values if v is not None), type(None)))
    if convert is not None:
        values = [None if v is None else convert(v) for v in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        types = sorted({type(v).__name__ for v in values if v is not None})
        raise Invalid(
            f"{where}: column {name!r} mixes {' and '.join(types)}, or has a value that is too large.",
            code="column_type",
            remedy="Give the column one type.",
        ) from error
