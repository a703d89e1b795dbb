"""Conversations that stand there twice: one prompt stays on one side of the split, and equal answers are one row.

Rows are split by their key, or by their prompt. Whatever splits them, a prompt that is held out teaches nothing:

- rows whose prompt a held-out row has, here or in the data that judges, are retired: they neither train nor judge;
- validation rows whose prompt is trained on train with it;
- rows with equal prompt and answer are merged: one on the holdout's side stays, else the one that was first;
- of answers that were judged differently, and of pairs that stand there both ways, what most rows say stays; where as
  many say the one as the other all of them are dropped: nobody knows which is right.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.data import splits
from app.data.chats import ACCEPTED, CHOSEN, COMPLETION, PROMPT, REJECTED, ChatOptions
from app.data.columns import SPLIT
from app.data.duplicates import STRICTEST_FIRST
from app.data.splits import HOLDOUT, RETIRED, TRAIN, VALIDATION, Sides
from app.data.texts import Settled

# What a row speaks of, and what it says of that.
Said = tuple[Hashable, Any]


def settle(rows: pa.Table, chat: ChatOptions, held_out: frozenset[str] = frozenset()) -> tuple[pa.Table, Settled]:
    """`rows` with their side in `__split`, in the order that decides which of equal rows stays.

    `held_out` are prompts that other rows are judged by.
    """
    before = np.array([splits.SIDES.index(side) for side in rows[SPLIT].to_pylist()], np.int8)
    sides = _parted(rows[PROMPT].to_pylist(), before, held_out)
    kept, contradictory = _merged(_said(rows, chat), sides)
    merged = len(sides) - len(kept) - contradictory
    rows, before, sides = rows.take(pa.array(kept, pa.int64())), before[kept], sides[kept]
    settled = Settled(
        merged=merged,
        contradictory=contradictory,
        retired=int(np.sum((sides == RETIRED) & (before != RETIRED))),
        moved=int(np.sum((sides == TRAIN) & (before == VALIDATION))),
    )
    place = rows.column_names.index(SPLIT)
    return rows.set_column(place, SPLIT, pa.array([splits.SIDES[side] for side in sides], pa.string())), settled


def _parted(prompts: Sequence[str], before: Sides, held_out: frozenset[str]) -> Sides:
    sides = before.copy()
    alike: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        alike[prompt].append(row)
    for prompt, rows in alike.items():
        found = set(before[rows].tolist())
        if prompt in held_out or HOLDOUT in found:
            sides[[row for row in rows if before[row] != HOLDOUT]] = RETIRED
        elif TRAIN in found:
            sides[[row for row in rows if before[row] == VALIDATION]] = TRAIN
    return sides


def _said(rows: pa.Table, chat: ChatOptions) -> list[Said]:
    prompts = rows[PROMPT].to_pylist()
    told = [rows[name].to_pylist() for name in chat.label_columns]
    if chat.kind == "prompts":
        return [(prompt, None) for prompt in prompts]
    if chat.kind == "answers":
        return [(each, None) for each in zip(prompts, rows[COMPLETION].to_pylist(), strict=True)]
    if chat.kind == "judged":
        answers = zip(prompts, rows[COMPLETION].to_pylist(), rows[ACCEPTED].to_pylist(), strict=True)
        return [((prompt, answer), accepted) for prompt, answer, accepted in answers]
    assert chat.label_columns == (CHOSEN, REJECTED)
    return [((prompt, frozenset(pair)), pair[0]) for prompt, *pair in zip(prompts, *told, strict=True)]


def _merged(said: Sequence[Said], sides: Sides) -> tuple[list[int], int]:
    """The rows that stay, in order, and how many contradict what stays, or each other."""
    alike: dict[Hashable, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (what, verdict) in enumerate(said):
        alike[what][verdict].append(row)
    kept, contradictory = [], 0
    for verdicts in alike.values():
        first, *others = sorted(verdicts.values(), key=len, reverse=True)
        contradictory += sum(map(len, others))
        if others and len(others[0]) == len(first):
            contradictory += len(first)
        else:
            kept.append(min(first, key=lambda row: (STRICTEST_FIRST.index(sides[row]), row)))
    return sorted(kept), contradictory
