"""The groups that a column cuts the holdout into, by its values or, where they are many numbers, by its quartiles."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.gate.tally import Floats, Integers
from app.runtimes.schema import named
from app.runtimes.table import kind_of

OTHER, MISSING = "(other)", "(missing)"


class Unsliceable(Exception):
    """A column that cuts nothing; the message says why."""


@dataclass(frozen=True)
class Group:
    """`name` as in `region=north` or `30<=age<45`; `rows` are places in the table, ascending."""

    name: str
    rows: Integers


def groups_of(table: pa.Table, column: str, at_most: int) -> list[Group]:
    """The groups of `column`, the most frequent first, then (other) and (missing); of quartiles, in their order.

    Quartiles, because they have equal numbers of rows, and those of these rows, because that is what is judged.
    Raises Unsliceable where there is no such column, or it holds neither numbers nor names.
    """
    if column not in table.column_names:
        raise Unsliceable(f"the holdout has no column {column}")
    values = table.column(column)
    if kind_of(values.type) is None:
        raise Unsliceable(f"column {column} holds {values.type}, and slices are of numbers or names")
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    known = np.flatnonzero(pc.is_valid(values).to_numpy())
    missing = np.flatnonzero(~pc.is_valid(values).to_numpy())
    if _is_measured(values, at_most):
        groups = _by_quartile(values, column, known)
    else:
        groups = _by_value(values, column, known, at_most) if len(known) else []
    return [*groups, Group(f"{column}={MISSING}", missing)] if len(missing) else groups


def _is_measured(values: pa.ChunkedArray, at_most: int) -> bool:
    return kind_of(values.type) == "numeric" and pc.count_distinct(values).as_py() > at_most


def _by_value(values: pa.ChunkedArray, column: str, known: Integers, at_most: int) -> list[Group]:
    encoded = values.combine_chunks().dictionary_encode() if not pa.types.is_dictionary(values.type) else values
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    texts = [_told(value) for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    counts = np.bincount(codes[known], minlength=len(texts))
    ranked = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], texts[code]))
    groups = [Group(f"{column}={texts[code]}", np.flatnonzero(codes == code)) for code in ranked[:at_most]]
    if rest := ranked[at_most:]:
        groups.append(Group(f"{column}={OTHER}", np.flatnonzero(np.isin(codes, rest))))
    return groups


def _by_quartile(values: pa.ChunkedArray, column: str, known: Integers) -> list[Group]:
    numbers: Floats = values.cast(pa.float64(), safe=False).to_numpy()
    edges = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75]))
    bins = np.searchsorted(edges, numbers[known], "right")
    names = [
        f"{column}<{edges[0]:g}",
        *(f"{low:g}<={column}<{high:g}" for low, high in pairwise(edges)),
        f"{column}>={edges[-1]:g}",
    ]
    found = [Group(name, known[bins == place]) for place, name in enumerate(names)]
    return [group for group in found if len(group.rows)]


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else named(value)
