"""Which rows that judge a version was trained on: its train and validation rows, known again by their identity.

The split keeps them apart within a model (splits.py); this looks at the rows themselves, and also sees what the split
lets pass: a holdout that has grown into what the incumbent was trained on, or a row whose time was changed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.data import identity
from app.data.chats import PROMPT
from app.data.columns import SPLIT
from app.data.identity import Identities
from app.data.snapshots import SnapshotCorrupt, path_of, verify
from app.data.sources import ROW_ORDER
from app.data.tables import DataVersion
from app.data.times import decode

Mask = npt.NDArray[np.bool_]

LEARNT_FROM = pa.array(["train", "validation"])


def seen(rows: pa.Table, judged: DataVersion, trained: DataVersion | None, store: Path) -> Mask | str:
    """Which of `rows`, (n,), out of the data version `judged`, were train or validation rows of `trained`.

    A text says why nobody knows. A row is known by its key; without one by its features, where a hash splits, and by
    its time, where time does; a conversation always by its prompt. In '@row' order the snapshot has no times; there
    the edges of both versions decide. Blocks while it reads and hashes the file of `trained`.
    """
    if trained is None:
        return "there is no record of the data version that it was trained on"
    if (known := _columns(judged)) != _columns(trained):
        return f"rows of data version {trained.digest[:12]} are known by other columns than those that judge"
    if known == [ROW_ORDER]:
        return _by_edge(rows, judged, trained)
    try:
        learnt = _learnt(path_of(store, trained.digest), trained, known)
    except SnapshotCorrupt as error:
        return error.message.rstrip(".")
    lacking = [name for name in known if name not in rows.column_names]
    if isinstance(learnt, str) or lacking:
        return learnt if isinstance(learnt, str) else _lacks(judged, lacking[0])
    mask: Mask = np.isin(_identities(rows, judged, known), learnt)
    return mask


def seen_by_any(rows: pa.Table, judged: DataVersion, trained: Sequence[DataVersion | None], store: Path) -> Mask | str:
    """As `seen`, of a version that goes back to others: what any of them was trained on, it was. Where nobody knows
    of one, nobody knows."""
    mask: Mask = np.zeros(rows.num_rows, np.bool_)
    for version in trained:
        found = seen(rows, judged, version, store)
        if isinstance(found, str):
            return found
        mask |= found
    return mask


def _columns(version: DataVersion) -> list[str]:
    """By which the rows of a data version are known."""
    fixed = version.split
    if _has_conversations(version):
        return [PROMPT]
    if fixed["key"] is not None:
        return [fixed["key"]]
    return sorted(fixed["hashed"]) if fixed["by"] == "hash" else [fixed["time"]]


def _has_conversations(version: DataVersion) -> bool:
    """Whether pairs, judged answers or answers: whoever learnt from a prompt has seen it."""
    return version.source.get("chat") is not None


def _identities(rows: pa.Table, version: DataVersion, known: list[str]) -> Identities:
    if version.split["key"] is None and version.split["by"] == "hash" and not _has_conversations(version):
        return identity.of_rows(rows.select(known))
    return identity.of_keys(rows[known[0]])


def _learnt(path: Path, version: DataVersion, known: list[str]) -> Identities | str:
    """Of all rows that train or choose. Raises SnapshotCorrupt; a text names a column that it has not kept."""
    verify(path, version.digest)
    kept = pq.read_schema(path).names
    if lacking := [name for name in known if name not in kept]:
        return _lacks(version, lacking[0])
    table = pq.read_table(path, columns=[*known, SPLIT], memory_map=True)
    return _identities(table.filter(pc.is_in(table[SPLIT], LEARNT_FROM)), version, known)


def _by_edge(rows: pa.Table, judged: DataVersion, trained: DataVersion) -> Mask | str:
    """Places in the source are times; all that was trained on lies before the edge, all that judges behind it."""
    edges = [decode(version.split["edge"])[0] for version in (judged, trained)]
    if judged.split["positions_in"] == trained.split["positions_in"] and edges[0] >= edges[1]:
        return np.zeros(rows.num_rows, np.bool_)
    return f"data version {trained.digest[:12]} was held out from another place on, and its rows have no key"


def _lacks(version: DataVersion, name: str) -> str:
    return f"data version {version.digest[:12]} has not kept the column {name}, by which its rows are known"
