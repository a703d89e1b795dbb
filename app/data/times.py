"""Time columns as numbers that can be compared: microseconds since 1970 UTC for moments, numbers as they are.

A timestamp without a zone is taken for UTC. As text (a high-water mark, the edge of a split) a moment is ISO
8601.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.data.columns import Kind, kind_of
from app.errors import Invalid

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - moments are naive UTC in here
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Times:
    """values (n,) int64, or float64 where the column has fractions; `known` (n,) is false where there is no time."""

    values: npt.NDArray[Any]
    known: npt.NDArray[np.bool_]
    kind: Kind
    zoned: bool = False

    def of(self, rows: npt.NDArray[np.bool_]) -> "Times":
        return replace(self, values=self.values[rows], known=self.known[rows])

    def column(self) -> pa.Array:
        """Moments as timestamps."""
        zone = "UTC" if self.zoned else None
        return pa.array(self.values, mask=~self.known).cast(pa.timestamp("us", tz=zone))

    def high_water(self) -> str | None:
        """The newest time as text; null where no row has one."""
        if not self.known.any():
            return None
        newest = encode(self.values[self.known].max().item(), self.kind)
        return f"{newest}+00:00" if self.zoned else newest


def times_of(column: pa.ChunkedArray, name: str) -> Times:
    """Raises Invalid `time_unreadable` for a column that is neither numbers, timestamps nor ISO 8601 text."""
    column = _moments(column, name) if kind_of(column.type) == "text" else column
    kind = kind_of(column.type)
    if kind not in ("number", "moment"):
        raise _unreadable(name, f"it is {column.type}")
    zoned = pa.types.is_timestamp(column.type) and column.type.tz is not None
    if kind == "moment":
        column = column.cast(pa.timestamp("us", tz="UTC" if zoned else None), safe=False)
    whole = kind == "moment" or not pa.types.is_floating(column.type)
    numbers = column.cast(pa.int64() if whole else pa.float64())
    known = pc.is_valid(numbers).to_numpy()
    values = pc.fill_null(numbers, 0).to_numpy()
    return Times(values, known & np.isfinite(values), kind, zoned)


def row_order(positions: npt.NDArray[Any]) -> Times:
    """The places of rows as their times."""
    return Times(positions, np.ones(len(positions), np.bool_), "number")


def encode(value: float, kind: Kind) -> str:
    return (EPOCH + value * MICROSECOND).isoformat() if kind == "moment" else repr(value)


def decode(text: str) -> tuple[float, Kind]:
    """The number and the kind that `encode` was given. Raises ValueError for text that is neither."""
    value = parse(text)
    if not isinstance(value, datetime):
        return value, "number"
    naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return (naive - EPOCH) // MICROSECOND, "moment"


def parse(text: str) -> int | float | datetime:
    """A number or a moment as Python has it, e.g. to bind into a query. Raises ValueError."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return datetime.fromisoformat(text)


def newer(times: Times, since: str) -> npt.NDArray[np.bool_]:
    """(n,) true where a row is newer than `since`. A mark of another kind says nothing: every row is newer then."""
    mark, kind = decode(since)
    return times.known & (times.values > mark) if kind == times.kind else times.known


def _moments(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    for zone in (None, "UTC"):
        try:
            return column.cast(pa.timestamp("us", tz=zone))
        except pa.ArrowInvalid:
            continue
    raise _unreadable(name, "its text is not ISO 8601 throughout, or only some of it has a zone")


def _unreadable(name: str, why: str) -> Invalid:
    remedy = "Give numbers, timestamps, or text such as 2024-05-31T08:00:00Z; or use time: '@row'."
    return Invalid(f"data.time names {name!r}, which cannot order rows: {why}.", code="time_unreadable", remedy=remedy)
