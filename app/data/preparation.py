"""From what a source gave to what a snapshot keeps: checked, complete, on its side of the split, in a fixed order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.data import columns, conversations, duplicates, same_answers, splits, texts
from app.data.chats import PROMPT
from app.data.columns import SPLIT, missing
from app.data.identity import Identified, Identities, identify
from app.data.sources import ROW_ORDER, SourceOptions
from app.data.texts import Settled
from app.data.times import Times, row_order, times_of
from app.definitions.schemas import Definition
from app.errors import Invalid

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Prepared:
    """`rows` has label, key, time, features and `__split`; `dropped` counts rows by what they lacked.

    `texts` says what became of rows that say the same, where rows are texts.
    """

    rows: pa.Table
    fixed: dict[str, Any]
    judged: Identities
    dropped: dict[str, int]
    duplicates: int
    texts: Settled | None
    high_water: str | None


def prepare(
    table: pa.Table,
    definition: Definition,
    *,
    before: dict[str, Any] | None,
    judged: Identities,
    held_out: frozenset[str] = frozenset(),
) -> Prepared:
    """`before` and `judged` come from the model's latest data version, see `splits.assign`.

    `held_out`, of conversations: prompts that other rows are judged by.
    """
    data = definition.data
    if not table.num_rows:
        raise _insufficient("The source gave no rows.")
    table = columns.plain(table)
    if data.chat is not None:
        table = conversations.canonical(table, data)
    columns.require_roles(data, table.column_names)
    features = columns.features_of(data, table.column_names)
    columns.require_readable(table, data.label_columns, features)
    columns.require_texts(table, data)
    columns.require_slices(table, definition.gate.slice_columns)
    known = identify(table, data.key, features, (before or {}).get("hashed"))
    order = _order(table, definition, known, before)
    times = _times(table, data)

    keep, dropped = _complete(table, definition, times)
    if not keep.any():
        raise _insufficient(f"None of {table.num_rows} rows has all it needs; they lack: {dropped}.")
    if not keep.all():
        table, known, times = table.filter(pa.array(keep)), known.of(keep), times.of(keep) if times else None
    assigned = splits.assign(definition, known, times, before=before, judged=judged)

    # What judges by groups and what tells rows apart is kept also where it is no feature.
    others = columns.beside_conversations(data, table.column_names)
    columns.require_kept(table, others)
    beside = [*definition.gate.slice_columns, *others, *(known.hashed or ())]
    names = dict.fromkeys([*data.label_columns, data.key, data.time, *features, *beside])
    rows = _in_order(_kept(table, data, times, list(names)), data, known, times, assigned.sides)
    high_water = times.high_water() if times and columns.has_times(data) else str(rows.num_rows)
    twice = rows.num_rows - len(np.unique(known.identities))
    rows, settled = _settled(rows, data, held_out)
    return Prepared(rows, assigned.fixed | {"order": order}, assigned.judged, dropped, twice, settled, high_water)


def _settled(rows: pa.Table, data: SourceOptions, held_out: frozenset[str]) -> tuple[pa.Table, Settled | None]:
    """What becomes of rows that say the same."""
    if data.text is not None:
        rows, settled = duplicates.settle(rows, data)
        remedy = (
            "Most texts are nearly equal: wait for others, or raise data.text.near_duplicates (null: only equal ones)."
        )
    elif data.chat is not None:
        rows, settled = same_answers.settle(rows, data.chat, held_out)
        remedy = "Most rows ask the same, or what is held out elsewhere: wait for other prompts."
    else:
        return rows, None
    splits.require_rows(rows[SPLIT].to_pylist(), remedy)
    return rows, settled


def _times(table: pa.Table, data: SourceOptions) -> Times | None:
    """The place of a row in its source counts from 0, unless the source gave '@row' by itself."""
    if data.time is None:
        return None
    if data.time != ROW_ORDER:
        return times_of(table[data.time], data.time)
    given = ROW_ORDER in table.column_names
    return row_order(table[ROW_ORDER].to_numpy() if given else np.arange(table.num_rows))


def _order(
    table: pa.Table, definition: Definition, known: Identified, before: dict[str, Any] | None
) -> dict[str, Any] | None:
    """What fixes the order of the rows, where a row's place decides its side."""
    if definition.split.by != "time" or definition.data.time != ROW_ORDER or ROW_ORDER in table.column_names:
        return None
    if before and before["order"]:
        splits.same_order(known.identities, before["order"])
    return splits.order_digest(known.identities)


def _complete(table: pa.Table, definition: Definition, times: Times | None) -> tuple[Mask, dict[str, int]]:
    """Which rows have a label, a key and a time, as far as they need one; and how many lack what."""
    data = definition.data
    unlabelled = [missing(table[name]).to_numpy() for name in data.label_columns]
    # A conversation needs all its answers; elsewhere each label is learnt by itself.
    lack: dict[str, Mask] = {"label": np.all(unlabelled, axis=0) if data.chat is None else _any(unlabelled, table)}
    if data.key is not None:
        lack["key"] = missing(table[data.key]).to_numpy()
    if times is not None and definition.split.by == "time":
        lack["time"] = ~times.known
    if data.text is not None:
        lack["text"] = np.array([not text for text in texts.of(table, data.text)])
    if data.chat is not None:
        lack["text"] = missing(table[PROMPT]).to_numpy()
    return ~np.any(list(lack.values()), axis=0), {name: int(mask.sum()) for name, mask in lack.items()}


def _any(masks: Sequence[Mask], table: pa.Table) -> Mask:
    return np.any(masks, axis=0) if masks else np.zeros(table.num_rows, np.bool_)


def _kept(table: pa.Table, data: SourceOptions, times: Times | None, names: Sequence[str | None]) -> pa.Table:
    """The columns of a snapshot. A column without any value counts as a number; times are kept as they were read."""
    kept = {name: table[name] for name in names if name is not None and name != ROW_ORDER}
    kept = {name: c.cast(pa.float64()) if pa.types.is_null(c.type) else c for name, c in kept.items()}
    if times is not None and times.kind == "moment" and data.time is not None:
        kept[data.time] = times.column()
    return pa.table(kept)


def _in_order(
    rows: pa.Table, data: SourceOptions, known: Identified, times: Times | None, sides: splits.Sides
) -> pa.Table:
    """By time, then key, then whatever else tells rows apart: the same rows always come out in the same order."""
    first = {"@time": pa.array(times.values)} if times else {}
    second = {data.key: rows[data.key]} if data.key else {"@identity": pa.array(known.identities)}
    ranks = pa.table(first | second | {name: rows[name] for name in rows.column_names})
    order = pc.sort_indices(ranks, sort_keys=[(name, "ascending") for name in ranks.column_names])
    named = pa.DictionaryArray.from_arrays(pa.array(sides), pa.array(splits.SIDES)).cast(pa.string())
    return rows.append_column(SPLIT, named).take(order)


def _insufficient(why: str) -> Invalid:
    return Invalid(why, code="insufficient_data", remedy="Look at the source; labels may come later than rows.")
