"""JSON rows → Batch. Kind about form (lists in the schema's order, or objects by name), strict about types.

The fast path reads the whole batch at once and only says whether it fits; what is wrong with it is looked for
cell by cell, and only then. No message echoes a value.
"""

import math
from collections.abc import Iterator
from itertools import chain, islice
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import Invalid, told_name
from app.runtimes import Batch, texts
from app.runtimes.schema import Column, InputSchema

NAMED_FAULTS = 10
FLOAT32_LIMIT = 2**128 - 2**103  # from here on float32 rounds to infinity
KINDS = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}

Row = list[Any]
Fault = tuple[int, str | None, str]  # row, column (None: the row as a whole), what is wrong


def to_batch(rows: list[Any], schema: InputSchema) -> Batch:
    """The batch of `rows` as JSON decodes them: all lists in the schema's order, or all objects by name.

    null is a missing value. Numeric columns take numbers that float32 can hold; categorical ones take text,
    and whole numbers, true and false as the text they are written with. Objects have every column and no
    other. A version that reads texts also takes each row as the text that it would be composed to.

    Raises Invalid, code `invalid_instances`, with `errors=[{row, column, message}]` for the first ten faults
    and `more` for how many follow. Rows count from 0.
    """
    if not rows:
        raise Invalid("There are no instances to predict.", code="invalid_instances", errors=[], more=0)
    batch = _read_texts(rows, schema) if schema.text else _read(rows, schema)
    if batch is None:
        raise _invalid(list(_faults(rows, schema)))
    return batch


def numbers_to_batch(numbers: npt.NDArray[Any], schema: InputSchema) -> Batch:
    """The batch of an array (n, columns) of numbers, for a version that reads numbers only. NaN is a missing value.

    Raises Invalid, code `invalid_instances`, as `to_batch`; the ten faults are the first infinite or too large cells.
    """
    if schema.text is not None:
        raise Invalid("An array of numbers cannot hold the texts that this version reads.", code="invalid_instances")
    if schema.categorical:
        names = ", ".join(schema.categorical[:NAMED_FAULTS])
        raise Invalid(f"An array of numbers cannot hold the columns of names: {names}.", code="invalid_instances")
    if not len(numbers):
        raise Invalid("There are no instances to predict.", code="invalid_instances", errors=[], more=0)
    if numbers.shape[1] != len(schema.columns):
        raise _invalid([(0, None, f"has {numbers.shape[1]} values, expected {len(schema.columns)}")])
    narrow = to_float32(numbers)
    if np.isinf(narrow).any():
        beyond = np.argwhere(np.isinf(narrow)).tolist()
        raise _invalid([(row, schema.columns[place].name, "is infinite or too large") for row, place in beyond])
    return without_names(narrow)


def to_float32(numbers: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What is beyond float32 becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(numbers, np.float32)


def without_names(numbers: npt.NDArray[np.float32]) -> Batch:
    return Batch(numbers, np.empty((len(numbers), 0), np.object_))


def _composed(rows: list[Row], schema: InputSchema) -> list[str]:
    assert schema.text is not None
    names = [column.name for column in schema.columns]
    return texts.compose(schema.text.template, names, list(zip(*rows, strict=True)))


def _in_schema_order(rows: list[Any], schema: InputSchema) -> list[Row] | None:
    names = [column.name for column in schema.columns]
    forms, widths = set(map(type, rows)), {len(row) for row in rows if isinstance(row, list | dict)}
    if widths != {len(names)}:
        return None
    if forms == {list}:
        return rows
    if forms != {dict} or any(name not in row for row in rows for name in names):
        return None
    return [[row[name] for name in names] for row in rows]


def _read(rows: list[Any], schema: InputSchema) -> Batch | None:
    ordered = _in_schema_order(rows, schema)
    if ordered is None:
        return None
    numeric = _numeric(_columns(ordered, schema, "numeric"))
    categorical = _categorical(_columns(ordered, schema, "categorical"))
    return None if numeric is None or categorical is None else Batch(numeric, categorical)


def _read_texts(rows: list[Any], schema: InputSchema) -> Batch | None:
    assert schema.text is not None
    if set(map(type, rows)) == {str}:
        composed = [text.strip() for text in rows]
    else:
        ordered = _in_schema_order(rows, schema)
        if ordered is None or not set(map(type, chain.from_iterable(ordered))) <= {str, NoneType}:
            return None
        composed = _composed(ordered, schema)
    return None if any(texts.fault(text, schema.text) for text in composed) else texts.batch_of(composed)


def _columns(rows: list[Row], schema: InputSchema, kind: str) -> list[Row]:
    places = [place for place, column in enumerate(schema.columns) if column.kind == kind]
    return rows if len(places) == len(schema.columns) else [[row[place] for place in places] for row in rows]


def _numeric(rows: list[Row]) -> npt.NDArray[np.float32] | None:
    # numpy would read True as 1.0 and "2" as 2.0, so the types are looked at first.
    if not set(map(type, chain.from_iterable(rows))) <= {int, float, NoneType}:
        return None
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(rows, dtype=np.float64).astype(np.float32)
    except OverflowError:
        return None
    missing = sum(row.count(None) for row in rows)
    return numbers if np.count_nonzero(~np.isfinite(numbers)) == missing else None


def _categorical(rows: list[Row]) -> npt.NDArray[np.object_] | None:
    types = set(map(type, chain.from_iterable(rows)))
    if not types <= {str, bool, int, NoneType}:
        return None
    texts = rows if types == {str} else [[_text(value) for value in row] for row in rows]
    return np.array(texts, dtype=np.object_).reshape(len(rows), -1 if rows[0] else 0)


def _text(value: str | bool | int | None) -> str:
    """As Arrow writes it, so that training and serving agree on the text of a boolean or a whole number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _invalid(faults: list[Fault]) -> Invalid:
    row, column, message = faults[0]
    where = f"row {row}" if column is None else f"row {row}, column {column!r}"
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(
        f"The instances do not fit the model's input: {where}: {message}{others}.",
        code="invalid_instances",
        errors=[{"row": r, "column": c, "message": m} for r, c, m in islice(faults, NAMED_FAULTS)],
        more=max(0, len(faults) - NAMED_FAULTS),
    )


def _faults(rows: list[Any], schema: InputSchema) -> Iterator[Fault]:
    forms = (list, dict, str) if schema.text else (list, dict)
    form = next((form for form in forms if isinstance(rows[0], form)), list)
    for index, row in enumerate(rows):
        if not isinstance(row, forms):
            or_text = ", or a text" if schema.text else ""
            yield index, None, f"expected a list of {len(schema.columns)} values or an object{or_text}"
        elif not isinstance(row, form):
            yield index, None, f"rows must be all lists or all objects{', or all texts' if schema.text else ''}"
        else:
            yield from ((index, column, message) for column, message in _row_faults(row, schema))


def _row_faults(row: Any, schema: InputSchema) -> Iterator[tuple[str | None, str]]:
    found: list[tuple[str | None, str]] = []
    if isinstance(row, list | dict):
        found += _list_faults(row, schema) if isinstance(row, list) else _object_faults(row, schema)
    yield from found
    if schema.text and not found:
        whole = row.strip() if isinstance(row, str) else _composed(_in_schema_order([row], schema) or [], schema)[0]
        if fault := texts.fault(whole, schema.text):
            yield None, fault


def _list_faults(row: Row, schema: InputSchema) -> Iterator[tuple[str | None, str]]:
    if len(row) != len(schema.columns):
        yield None, f"has {len(row)} values, expected {len(schema.columns)}"
        return
    for column, value in zip(schema.columns, row, strict=True):
        if fault := _cell_fault(column, value):
            yield column.name, fault


def _object_faults(row: dict[str, Any], schema: InputSchema) -> Iterator[tuple[str | None, str]]:
    for column in schema.columns:
        if column.name not in row:
            yield column.name, "is missing; send null where the value is unknown"
        elif fault := _cell_fault(column, row[column.name]):
            yield column.name, fault
    for name in row.keys() - {column.name for column in schema.columns}:
        yield told_name(name), "is not a column of this model"


def _cell_fault(column: Column, value: Any) -> str | None:
    if value is None:
        return None
    got = KINDS.get(type(value), "this")
    if column.kind == "text":
        return None if isinstance(value, str) else f"expected text, not {got}"
    if column.kind == "categorical":
        return None if isinstance(value, str | int) else f"expected text, not {got}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, not {got}"
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    return None if abs(value) < FLOAT32_LIMIT else "is too large for a 32-bit number"
