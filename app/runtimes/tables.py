"""Arrow tables → Batch: how training and the gate read rows. `rows.py` reads the same values from JSON alike."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from app.errors import Invalid
from app.runtimes import Batch
from app.runtimes.schema import Column, InputSchema


def kind_of(type: pa.DataType) -> Literal["numeric", "categorical"] | None:
    """What a column of that type is by itself; None for times, lists and other types that no model reads."""
    if types.is_dictionary(type):
        return kind_of(type.value_type)
    if types.is_boolean(type) or types.is_string(type) or types.is_large_string(type):
        return "categorical"
    if types.is_integer(type) or types.is_floating(type) or types.is_decimal(type) or types.is_null(type):
        return "numeric"
    return None


def from_table(table: pa.Table, schema: InputSchema) -> Batch:
    """The feature columns of `table`, in the schema's order; nulls and NaN are missing values.

    Raises Invalid, code `unreadable_rows`, with `errors=[{column, message}]`: a column is not there, has another type
    than the model was trained on, holds a number beyond float32, or fractions in place of names.
    """
    read = {}
    errors = []
    for column in schema.columns:
        try:
            read[column.name] = _read(table, column)
        except ValueError as error:
            errors.append({"column": column.name, "message": str(error)})
    if errors:
        first = errors[0]
        raise Invalid(
            f"Column {first['column']!r} cannot be read: {first['message']}.", code="unreadable_rows", errors=errors
        )
    return Batch(
        np.column_stack([np.empty((len(table), 0), np.float32), *(read[name] for name in schema.numeric)]),
        np.column_stack([np.empty((len(table), 0), np.object_), *(read[name] for name in schema.categorical)]),
    )


def _read(table: pa.Table, column: Column) -> npt.NDArray[np.float32] | npt.NDArray[np.object_]:
    if column.name not in table.column_names:
        raise ValueError("it is not in the data")
    values = table.column(column.name)
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if kind_of(values.type) is None:
        raise ValueError(f"type {values.type} is neither number nor text")
    return _texts(values) if column.kind == "categorical" else _numbers(values)


def _numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    if kind_of(values.type) != "numeric":
        raise ValueError(f"expected numbers, found {values.type}")
    wide = values.cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):
        narrow: npt.NDArray[np.float32] = wide.astype(np.float32)
    if beyond := int(np.isinf(narrow).sum()):
        raise ValueError(f"{beyond} of its values are infinite or too large for a 32-bit number")
    return narrow


def _texts(values: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    if types.is_floating(values.type) or types.is_decimal(values.type):
        values = _whole(values)
    texts: npt.NDArray[np.object_] = pc.fill_null(values.cast(pa.string()), "").to_numpy()
    return texts


def _whole(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers that were read as floats because some are missing; as names they are written without a point."""
    if types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ValueError("fractions cannot be names; take the column out of data.categorical") from error
