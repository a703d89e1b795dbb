"""The rows of a data version as JSON lines: the same bytes each time."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.data import snapshots
from app.data.columns import SPLIT
from app.data.tables import DataVersion

AT_ONCE = 2_000


def verified(store: Path, version: DataVersion) -> Path:
    """The file of a data version, after every byte of it was hashed. Blocks. Raises SnapshotCorrupt."""
    path = snapshots.path_of(store, version.digest)
    snapshots.verify(path, version.digest)
    return path


def lines(path: Path, side: str) -> Iterator[bytes]:
    """The rows on that side of the split, some thousands at once. Blocks."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(AT_ONCE):
            chosen = batch.filter(pc.equal(batch[SPLIT].cast("string"), side)).drop_columns([SPLIT])
            yield b"".join(orjson.dumps(_plain(row)) + b"\n" for row in chosen.to_pylist())


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN, which is a missing value here."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
