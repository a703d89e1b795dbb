"""A data version: the rows of a source, each on its side of the split, as one Parquet file under its sha256.

    store/snapshots/<digest>.parquet    label, key, time, features, and `__split`; never changed

Of conversations (`data.chat`) it has the columns of `chats.py`, and every other column of the source that is not
ignored: what a curriculum, a slice or a sign-off asks for later is there.

Equal content is an equal file, whatever order the source gave its rows in, as long as the same pyarrow writes
it. The row in `data_versions` is the publication, as with artifacts: a file without one does not exist.
"""

import asyncio
import base64
import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from app.data import columns, splits
from app.data.chats import ACCEPTED
from app.data.columns import SPLIT
from app.data.identity import Identities
from app.data.preparation import Prepared, prepare
from app.data.sources import SourceOptions
from app.data.tables import TRAINING, DataVersion, Role
from app.data.times import newer, times_of
from app.definitions.schemas import Definition
from app.errors import RefitError
from app.registry.artifacts import sync_folder
from app.runtimes.schema import TextInput

# In the file's metadata: the identities of all keys that were ever held out by time, base64 of little-endian
# uint64.
JUDGED = "refit.judged"
# Likewise, who gave the labels, where a language model did.
LABELLED = "refit.labelling"
# And what the rows are for, where they are not trained on as they stand: the same rows for another end are others.
ROLE = "refit.role"
MOST_LABELS = 200
ROW_GROUP = 1 << 17


class SnapshotCorrupt(RefitError):
    """The file of a data version is not there, or not what was written."""

    status, code = 500, "snapshot_corrupt"


@dataclass(frozen=True)
class Snapshot:
    """A data version that was read back and verified. `split` (n,) text, one of `splits.SIDES` a row.

    `rows` has label, key, time and feature columns, in time order where `time_ordered`.
    """

    digest: str
    rows: pa.Table
    split: pa.ChunkedArray
    labels: tuple[str, ...]
    features: tuple[str, ...]
    categorical: frozenset[str]
    positive: Any
    time_ordered: bool
    text: TextInput | None


async def take(
    model: str,
    table: pa.Table,
    definition: Definition,
    *,
    store: Path,
    previous: DataVersion | None,
    job_id: int | None,
    labelling: dict[str, Any] | None = None,
    role: Role = TRAINING,
    held_out: frozenset[str] = frozenset(),
) -> DataVersion:
    """Writes the snapshot of what a source gave, and returns the row that publishes it (`service.insert_version`).

    `previous` is the model's latest data version: the new one keeps every row on its side of it. `labelling` says who
    gave the labels; `held_out` are prompts that other rows are judged by. Raises Invalid (`column_missing`,
    `column_type`, `insufficient_data`, `conversation_invalid`, …) or Refused `split_would_leak`.
    """
    before = previous.split if previous else None
    judged = await asyncio.to_thread(_judged, store, previous)
    prepared = await asyncio.to_thread(prepare, table, definition, before=before, judged=judged, held_out=held_out)
    version = await asyncio.to_thread(_write, prepared, definition, store, labelling, role)
    version.model, version.job_id = model, job_id
    return version


def path_of(store: Path, digest: str) -> Path:
    return store / "snapshots" / f"{digest}.parquet"


def load(store: Path, version: DataVersion, definition: Definition) -> Snapshot:
    """Blocks. Raises SnapshotCorrupt, or Invalid `column_missing` where the definition wants what it has not."""
    path, data = path_of(store, version.digest), definition.data
    verify(path, version.digest)
    table = pq.read_table(path, memory_map=True)
    rows = table.drop_columns([SPLIT])
    where = f"data version {version.digest[:12]}"
    columns.require(
        [*data.label_columns, *(data.feature_columns or []), *definition.gate.slice_columns],
        rows.column_names,
        f"The definition, of {where},",
    )
    return Snapshot(
        digest=version.digest,
        rows=rows,
        split=table[SPLIT].cast(pa.string()),
        labels=data.label_columns,
        features=columns.features_of(data, rows.column_names),
        categorical=frozenset(data.categorical),
        positive=data.positive,
        time_ordered=data.time is not None,
        text=data.text.rule if data.text else None,
    )


def verify(path: Path, digest: str) -> None:
    """Hashes every byte. Raises SnapshotCorrupt."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SnapshotCorrupt(
            f"Data version {digest[:12]} cannot be read: {error.strerror} ({path}).",
            remedy="Restore the file from a backup of the store, or train on another data version.",
        ) from error
    if found != digest:
        raise SnapshotCorrupt(f"Data version {digest[:12]} does not match its digest ({path}).")


def new_rows(snapshot: Snapshot, definition: Definition, since: DataVersion | None) -> int:
    """How many labelled rows came since that data version: by time, or else how many more there are."""
    if since is None:
        return int(snapshot.rows.num_rows)
    time = definition.data.time
    if time is not None and time in snapshot.rows.column_names and since.high_water is not None:
        return int(newer(times_of(snapshot.rows[time], time), since.high_water).sum())
    return max(0, int(snapshot.rows.num_rows) - since.rows)


def _write(
    prepared: Prepared, definition: Definition, store: Path, labelling: dict[str, Any] | None, role: Role
) -> DataVersion:
    digest, size = _publish(prepared, store, _metadata(prepared, labelling, role))
    rows = prepared.rows
    return DataVersion(
        digest=digest,
        role=role,
        rows=rows.num_rows,
        counts=dict.fromkeys(splits.SIDES, 0) | _tally(rows[SPLIT]),
        dropped=prepared.dropped,
        duplicates=prepared.duplicates,
        texts=prepared.texts.told() if prepared.texts else None,
        labels=_labels(rows, _counted(definition.data)),
        columns=[{"name": field.name, "type": str(field.type)} for field in rows.schema if field.name != SPLIT],
        split=prepared.fixed,
        labelling=labelling,
        high_water=prepared.high_water,
        source=definition.data.model_dump(mode="json"),
        bytes=size,
    )


def _publish(prepared: Prepared, store: Path, metadata: Mapping[str, str]) -> tuple[str, int]:
    """Write, fsync, rename to the digest, fsync the folder: whatever has that name is whole. Digest and bytes."""
    folder = path_of(store, "").parent
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{uuid.uuid4().hex}"
    try:
        _write_parquet(partial, prepared.rows, metadata)
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            size = file.tell()
        partial.replace(path_of(store, digest))
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(folder)
    return digest, size


def _write_parquet(path: Path, rows: pa.Table, metadata: Mapping[str, str]) -> None:
    """Nothing in the file varies but its content: no time of writing, no name, every option given."""
    with pq.ParquetWriter(path, rows.schema, version="2.6", compression="zstd", compression_level=3) as writer:
        writer.write_table(rows, row_group_size=ROW_GROUP)
        for name, value in metadata.items():
            writer.add_key_value_metadata({name: value})


def _metadata(prepared: Prepared, labelling: dict[str, Any] | None, role: Role) -> dict[str, str]:
    told = {}
    if len(prepared.judged):
        told[JUDGED] = base64.b64encode(prepared.judged.astype("<u8").tobytes()).decode()
    if labelling is not None:
        # Rows that the model labelled as they were are another data version all the same: it says who vouches.
        who = {name: labelling[name] for name in ("api", "model", "temperature", "seed", "prompt_sha256")}
        told[LABELLED] = orjson.dumps(who, option=orjson.OPT_SORT_KEYS).decode()
    if role != TRAINING:
        told[ROLE] = role
    return told


def _judged(store: Path, version: DataVersion | None) -> Identities:
    """The keys that were ever held out by time. Raises SnapshotCorrupt: without them a row could come back to train."""
    if version is None or version.split["by"] != "time" or version.split["key"] is None:
        return np.empty(0, np.uint64)
    path = path_of(store, version.digest)
    verify(path, version.digest)
    return np.frombuffer(base64.b64decode(pq.read_metadata(path).metadata[JUDGED.encode()]), "<u8")


def _counted(data: SourceOptions) -> Sequence[str]:
    """The columns whose values are told by number: what somebody wrote is nobody's business in a list."""
    if data.chat is not None:
        return [ACCEPTED] if data.chat.kind == "judged" else []
    return data.label_columns


def _labels(rows: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    counted = [(name, label, count) for name in columns for label, count in _tally(rows[name]).items()]
    counted.sort(key=lambda item: (columns.index(item[0]), -item[2], str(item[1])))
    return [{"column": name, "label": label, "rows": count} for name, label, count in counted[:MOST_LABELS]]


def _tally(column: pa.ChunkedArray) -> dict[Any, int]:
    return {pair["values"]: pair["counts"] for pair in column.value_counts().to_pylist()}
