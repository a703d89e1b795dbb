"""A table in the order of time, served in windows: first its rows without labels, then what they were."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

KEY, TIME = "replay_row", "replay_time"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stream:
    """`first` rows are known from the beginning; then come windows of `rows` each."""

    table: pa.Table
    label: str
    first: int
    rows: int

    @property
    def starts(self) -> list[int]:
        return list(range(self.first, self.table.num_rows - self.rows + 1, self.rows))

    def instances(self, start: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table.drop_columns([self.label]).slice(start, self.rows).to_pylist()
        return rows

    def truth(self, start: int) -> list[Any]:
        values: list[Any] = self.table[self.label].slice(start, self.rows).to_pylist()
        return values

    def write(self, path: Path, until: int, history: int) -> None:
        """The last `history` rows before `until`, as a source that knows their order."""
        begin = max(0, until - history)
        known = self.table.slice(begin, until - begin)
        places = range(begin, until)
        known = known.append_column(KEY, pa.array(places)).append_column(TIME, pa.array([_time(i) for i in places]))
        path.parent.mkdir(exist_ok=True)
        pa.csv.write_csv(known, path)


def read(path: Path, label: str, first: int, rows: int) -> Stream:
    """Raises ValueError where the label is no column, or too few rows are left for two windows."""
    table = pa.csv.read_csv(path)
    if label not in table.column_names:
        raise ValueError(f"{path} has no column {label}; it has {', '.join(table.column_names)}")
    if table.num_rows < first + 2 * rows:
        raise ValueError(f"{path} has {table.num_rows} rows: fewer than {first} and two windows of {rows}")
    return Stream(table, label, first, rows)


def data_of(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The `data` of the definition of whoever trains on what was written."""
    return {"source": "file", "path": str(path), "key": KEY, "time": TIME} | options


def _time(place: int) -> str:
    return (EPOCH + timedelta(minutes=place)).isoformat()
