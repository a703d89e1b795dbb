"""Rows that say the same: equal texts become one row, and texts that are nearly equal stay on one side of the split.

Texts are compared without case, accents' composition, punctuation and the width of spaces. What is decided moves no row
out of the holdout and none into it, so the invariant of splits.py stands:

- equal texts with equal labels are merged: one on the holdout's side stays, else the one that was first;
- equal texts with labels that contradict each other are dropped, all of them: nobody knows which is right;
- a row near a held-out one is retired: it neither trains nor judges;
- validation rows near a training row train with it.

Near means a Jaccard similarity of the sets of five-character shingles, found by MinHash (Broder 1997) with banding
(Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, chapter 3) and then computed exactly. Banding finds nearly
all of the pairs at the threshold and all but surely those well above it.
"""

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.data import splits, texts
from app.data.columns import SPLIT
from app.data.sources import SourceOptions
from app.data.splits import HOLDOUT, RETIRED, TRAIN, VALIDATION, Sides
from app.data.texts import Settled

# Of equal texts the one on the first of these sides stays.
STRICTEST_FIRST = (HOLDOUT, RETIRED, TRAIN, VALIDATION)
SHINGLE = 5
PERMUTATIONS = 128
# Of a missed pair and a pair compared in vain, the first is the worse: the weights of datasketch's banding.
WEIGHTS = (0.1, 0.9)
BETWEEN_WORDS = re.compile(r"[\W_]+")

Labels = tuple[Any, ...]


def settle(rows: pa.Table, data: SourceOptions) -> tuple[pa.Table, Settled]:
    """`rows` with their side in `__split`, in the order that decides which of equal rows stays."""
    assert data.text is not None
    said = [normalized(text) for text in texts.of(rows, data.text)]
    labels = list(zip(*(rows[name].to_pylist() for name in data.label_columns), strict=True))
    sides = np.array([splits.SIDES.index(side) for side in rows[SPLIT].to_pylist()], np.int8)
    kept, contradictory = _merged(said, labels, sides)
    settled = Settled(merged=len(said) - len(kept) - contradictory, contradictory=contradictory)
    rows, sides = rows.take(pa.array(kept, pa.int64())), sides[kept]
    if data.text.near_duplicates is not None:
        near = neighbours([said[row] for row in kept], data.text.near_duplicates)
        settled = _parted(near, sides, settled)
    place = rows.column_names.index(SPLIT)
    return rows.set_column(place, SPLIT, pa.array([splits.SIDES[side] for side in sides], pa.string())), settled


def normalized(text: str) -> str:
    return BETWEEN_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip() or text


def neighbours(said: Sequence[str], threshold: float) -> dict[int, set[int]]:
    """Which texts, all of them different, are at least that alike; both directions of every pair."""
    from datasketch import MinHash, MinHashLSH  # noqa: PLC0415 - the API never takes a snapshot

    shingled = [shingles(text) for text in said]
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=WEIGHTS)
    near: dict[int, set[int]] = defaultdict(set)
    for row, sketch in enumerate(MinHash.generator(shingled, num_perm=PERMUTATIONS, hashfunc=zlib.crc32)):
        for other in index.query(sketch):
            if jaccard(shingled[row], shingled[other]) >= threshold:
                near[row].add(other)
                near[other].add(row)
        index.insert(row, sketch, check_duplication=False)
    return near


def shingles(text: str) -> frozenset[bytes]:
    """Every five characters in a row; of a shorter text the text itself."""
    return frozenset(text[at : at + SHINGLE].encode() for at in range(max(1, len(text) - SHINGLE + 1)))


def jaccard(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """The share of what both have in what either has."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def _merged(said: Sequence[str], labels: Sequence[Labels], sides: Sides) -> tuple[list[int], int]:
    """The rows that stay, in order, and how many contradict each other."""
    alike: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(said):
        alike[text].append(row)
    kept, contradictory = [], 0
    for rows in alike.values():
        if _contradict(labels[row] for row in rows):
            contradictory += len(rows)
        else:
            kept.append(min(rows, key=lambda row: (STRICTEST_FIRST.index(sides[row]), labels[row].count(None), row)))
    return sorted(kept), contradictory


def _contradict(labels: Iterable[Labels]) -> bool:
    """A missing label contradicts none."""
    return any(len(set(column) - {None}) > 1 for column in zip(*labels, strict=True))


def _parted(near: Mapping[int, set[int]], sides: Sides, settled: Settled) -> Settled:
    """Changes `sides` so that no two near rows stand on different sides, but for those that are retired."""
    before = sides.copy()
    for row in near:
        if sides[row] != HOLDOUT and any(sides[other] == HOLDOUT for other in near[row]):
            sides[row] = RETIRED
    for row in _reached(near, sides):
        sides[row] = TRAIN
    return Settled(
        merged=settled.merged,
        contradictory=settled.contradictory,
        near_duplicates=len(near),
        retired=int(np.sum((sides == RETIRED) & (before != RETIRED))),
        moved=int(np.sum((sides == TRAIN) & (before == VALIDATION))),
    )


def _reached(near: Mapping[int, set[int]], sides: Sides) -> Iterator[int]:
    """The validation rows that a chain of near rows of training and validation joins to a training row."""
    waiting = [row for row in near if sides[row] == TRAIN]
    seen = set(waiting)
    while waiting:
        for other in near[waiting.pop()] - seen:
            if sides[other] in (TRAIN, VALIDATION):
                seen.add(other)
                waiting.append(other)
                if sides[other] == VALIDATION:
                    yield other
