"""Arrow tables → Batch: how training and the gate read a snapshot. `rows.py` reads JSON the same way."""

import re
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from app.errors import Invalid
from app.runtimes import Batch, texts
from app.runtimes.schema import Column, InputSchema

NumberArray = npt.NDArray[np.float32]
TextArray = npt.NDArray[np.object_]


def kind_of(arrow: pa.DataType) -> Literal["numeric", "categorical"] | None:
    """What a column of that type is by itself; None for times, lists and whatever else no model reads."""
    if types.is_dictionary(arrow):
        return kind_of(arrow.value_type)
    if types.is_boolean(arrow) or types.is_string(arrow) or types.is_large_string(arrow):
        return "categorical"
    if types.is_integer(arrow) or types.is_floating(arrow) or types.is_decimal(arrow) or types.is_null(arrow):
        return "numeric"
    return None


def to_batch(table: pa.Table, schema: InputSchema) -> Batch:
    """The columns that `schema` names, of all rows of `table`; its other columns are left out.

    Numbers become float32, NaN where missing. Of names, text stays as it is, booleans are "true" and "false",
    whole numbers have no point (also where a gap in the column made them floats), and null is "".

    Text columns are composed into `texts`.

    Raises Invalid, code `unreadable_rows`, with `errors=[{column, message}]`: a column is missing, has a type
    other than the schema's, holds a number beyond float32, or fractions in place of names.
    """
    read: dict[str, NumberArray | TextArray] = {}
    errors = []
    for column in schema.columns:
        try:
            read[column.name] = _read(table, column)
        except ValueError as error:
            errors.append({"column": column.name, "message": str(error)})
    if errors:
        named = "; ".join(f"column {e['column']!r} {e['message']}" for e in errors)
        raise Invalid(f"The rows do not fit the model: {named}.", code="unreadable_rows", errors=errors)
    if schema.text:
        return _of_texts(schema, [read[column.name].tolist() for column in schema.columns])
    numeric = np.empty((table.num_rows, len(schema.numeric)), np.float32)
    categorical = np.empty((table.num_rows, len(schema.categorical)), np.object_)
    for place, name in enumerate(schema.numeric):
        numeric[:, place] = read[name]
    for place, name in enumerate(schema.categorical):
        categorical[:, place] = read[name]
    return Batch(numeric, categorical)


def _of_texts(schema: InputSchema, columns: list[list[str]]) -> Batch:
    assert schema.text is not None
    composed = texts.compose(schema.text.template, [column.name for column in schema.columns], columns)
    for row, text in enumerate(composed):
        if fault := texts.fault(text, schema.text):
            raise Invalid(f"Row {row} {fault}.", code="unreadable_rows", errors=[{"row": row, "message": fault}])
    return texts.batch_of(composed)


def _read(table: pa.Table, column: Column) -> NumberArray | TextArray:
    if column.name not in table.column_names:
        raise ValueError("is not in the data")
    values = table.column(column.name)
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return _numbers(values) if column.kind == "numeric" else _texts(values)


def _numbers(values: pa.ChunkedArray) -> NumberArray:
    if kind_of(values.type) != "numeric":
        raise ValueError(f"must hold numbers, not {_said(values.type)}")
    wide = values.cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):
        narrow: NumberArray = wide.astype(np.float32)
    if beyond := int(np.isinf(narrow).sum()):
        raise ValueError(f"has {beyond} values that are infinite or too large for a 32-bit number")
    return narrow


def _said(type: pa.DataType) -> str:
    """Without what stands in its brackets: names of fields, a time zone."""
    return re.split(r"\W", str(type))[0]


def _texts(values: pa.ChunkedArray) -> TextArray:
    if kind_of(values.type) is None:
        raise ValueError(f"must hold names, not {_said(values.type)}")
    if types.is_floating(values.type) or types.is_decimal(values.type):
        values = _whole(values)
    texts: TextArray = pc.fill_null(values.cast(pa.string()), "").to_numpy()
    return texts


def _whole(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ValueError("holds fractions, which cannot be names") from error
