"""Which rows train, choose (validation) and judge (holdout). A row that was ever holdout never trains.

The invariant: over any sequence of data versions of a model, whatever rows come, leave, come late or come
again, and whatever changes of its definition `check_change` lets pass, a row that was holdout once is never
train or validation afterwards. It is holdout still, or `retired`: neither trained on nor judged.
tests/data/test_splits.py searches for a counterexample.

By hash: a row's identity (identity.py) is a number in [0, 1); holdout is [0, h), validation [h, h + v). The
number of a row never changes, and h may only grow.

By time: the holdout is everything from an edge on, and the edge never moves back. The stretch from the edge
to the newest row is remembered for ever; rows in such stretches before today's edge are retired, and so is a
row with the key of a row that was ever holdout. Validation is the stretch before the holdout. Equal times
share a side. A row without a key is known by its time: a source that rewrites times makes other rows.

What was fixed travels from version to version as JSON, in `data_versions.split`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.data.identity import Identified, Identities
from app.data.sources import ROW_ORDER
from app.data.times import Times, decode, encode
from app.definitions.schemas import Definition, Split
from app.errors import Invalid, Refused

SIDES = ("train", "validation", "holdout", "retired")
TRAIN, VALIDATION, HOLDOUT, RETIRED = range(4)
Sides = npt.NDArray[np.int8]  # (n,) indices into SIDES
Numbers = npt.NDArray[Any]  # (n,) int64 or float64
Stretch = tuple[float, float]  # both ends are within

# The holdout is cut from the new rows alone only where it then has so many rows to judge by.
ENOUGH_TO_JUDGE = 1_000


@dataclass(frozen=True)
class Assigned:
    """`fixed` is the next version's `before`; `judged` the identities of all keys that were ever holdout, by time."""

    sides: Sides
    fixed: dict[str, Any]
    judged: Identities


def assign(
    definition: Definition,
    rows: Identified,
    times: Times | None,
    *,
    before: dict[str, Any] | None = None,
    judged: Identities,
) -> Assigned:
    """The side of every row. `before` and `judged` come from the model's latest data version.

    Raises Refused `split_would_leak` where what was fixed forbids this definition, Invalid
    `insufficient_data` where a side stays empty.
    """
    facts = _facts(definition)
    if before is not None:
        _check(before, facts)
    split = definition.split
    edges: dict[str, Any] = {}
    if split.by == "hash":
        sides = by_hash(rows.identities, split)
    else:
        assert times is not None  # the definition has seen to it
        sides, edges = _by_remembered_time(times, split, before)
        if definition.data.key is not None:
            judged = np.union1d(judged, rows.identities[sides == HOLDOUT])
            sides[(sides < HOLDOUT) & np.isin(rows.identities, judged)] = RETIRED
    require_rows([SIDES[side] for side in sides])
    # Elsewhere than here a row's features may change without making it another row.
    hashed = rows.hashed if split.by == "hash" or facts["positions_in"] else None
    fixed = facts | edges | {"validation": split.validation, "hashed": hashed}
    return Assigned(sides, fixed, judged)


def by_hash(identities: Identities, split: Split) -> Sides:
    places = (identities >> np.uint64(11)) / 2.0**53  # the 53 bits that a float64 holds: never 1
    sides = np.full(len(identities), TRAIN, np.int8)
    sides[places < split.holdout + split.validation] = VALIDATION
    sides[places < split.holdout] = HOLDOUT
    return sides


def by_time(times: Numbers, split: Split, edge: float, judged: Sequence[Stretch]) -> Sides:
    """Holdout from `edge` on, the stretches that were judged before it retired, validation just before the edge."""
    sides = np.full(len(times), TRAIN, np.int8)
    for start, end in judged:
        sides[(times >= start) & (times <= end)] = RETIRED
    sides[times >= edge] = HOLDOUT
    free = times[sides == TRAIN]
    if len(free):
        sides[(sides == TRAIN) & (times >= _newest(free, split.validation / (1 - split.holdout)))] = VALIDATION
    return sides


def next_edge(times: Numbers, share: float, before: float | None, judged: Sequence[Stretch]) -> float:
    """Where the newest `share` of all rows begins; never before the edge `before`.

    Where that lies in what was judged already, every new row would be held out now and retired later, and
    training would never learn from one. The edge is then cut from the new rows alone, if they are enough.
    """
    edge = _newest(times, share)
    if before is None:
        return edge
    seen = max(end for _, end in judged)
    new = times[times > seen]
    if edge <= seen and len(new) * share >= ENOUGH_TO_JUDGE:
        edge = _newest(new, share)
    return max(before, edge)


def check_change(old: Definition, new: Definition) -> None:
    """Raises Refused `split_would_leak` for a change that could move rows out of the holdout."""
    _check(_facts(old), _facts(new))


def order_digest(identities: Identities) -> dict[str, Any]:
    """What `same_order` needs later to see that rows were only ever added behind these."""
    return {"rows": len(identities), "digest": hashlib.sha256(identities.tobytes()).hexdigest()}


def same_order(identities: Identities, order: dict[str, Any]) -> None:
    """Raises Refused unless the rows begin with those of the last version: in '@row' a row's position is its time."""
    if order_digest(identities[: order["rows"]]) == order:
        return
    raise Refused(
        f"The first {order['rows']} rows are not those of the last data version, so places name other rows.",
        code="split_would_leak",
        remedy="time: '@row' needs a source that only grows at its end; define a new model with a time column.",
    )


def _by_remembered_time(times: Times, split: Split, before: dict[str, Any] | None) -> tuple[Sides, dict[str, Any]]:
    if before is not None and before["kind"] != times.kind:
        raise _would_leak(f"the time was a {before['kind']} and is a {times.kind}")
    judged = [(decode(start)[0], decode(end)[0]) for start, end in before["judged"]] if before else []
    edge = next_edge(times.values, split.holdout, decode(before["edge"])[0] if before else None, judged)
    sides = by_time(times.values, split, edge, judged)
    stretches = _merged([*judged, (edge, max(edge, times.values.max().item()))])
    texts = [[encode(start, times.kind), encode(end, times.kind)] for start, end in stretches]
    return sides, {"kind": times.kind, "edge": encode(edge, times.kind), "judged": texts}


def _facts(definition: Definition) -> dict[str, Any]:
    data, split = definition.data, definition.split
    time = data.time if split.by == "time" else None
    positions_in = data.source if time == ROW_ORDER else None
    facts: dict[str, Any] = {
        "by": split.by,
        "key": data.key,
        "time": time,
        "positions_in": positions_in,
        "holdout": split.holdout,
    }
    if data.chat is not None and data.key is None and split.by == "hash":
        # A conversation without a key is known by its prompt: of another column, or with another system, it is another.
        facts["asked"] = [data.chat.messages or data.chat.prompt, data.chat.system]
    return facts


def _check(before: dict[str, Any], now: dict[str, Any]) -> None:
    words = {
        "by": "split.by",
        "key": "data.key",
        "time": "data.time",
        "positions_in": "data.source",
        "asked": "data.chat",
    }
    for fact, word in words.items():
        if before.get(fact) != now.get(fact):
            raise _would_leak(f"{word} changes from {before.get(fact)} to {now.get(fact)}")
    if now["by"] == "hash" and now["holdout"] < before["holdout"]:
        raise _would_leak(f"split.holdout shrinks from {before['holdout']:g} to {now['holdout']:g}")


def _would_leak(why: str) -> Refused:
    return Refused(
        f"Rows that were held out could be trained on: {why}.",
        code="split_would_leak",
        remedy="Take the change back, or define a new model, whose holdout begins afresh.",
    )


def _newest(times: Numbers, share: float) -> float:
    """The time at which the newest `share` of the rows begins, at least one row."""
    place = len(times) - max(1, round(share * len(times)))
    number: float = np.partition(times, place)[place].item()
    return number


def _merged(stretches: Sequence[Stretch]) -> list[Stretch]:
    merged: list[Stretch] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def require_rows(
    sides: Sequence[str],
    remedy: str = "Wait for more rows; by time, for rows newer than those that were judged before.",
) -> None:
    """Raises Invalid `insufficient_data` where there is none to train on, to choose by or to judge by."""
    counts = {name: sides.count(name) for name in SIDES}
    empty = [name for name in SIDES[:RETIRED] if not counts[name]]
    if empty:
        raise Invalid(
            f"The split leaves no rows for {' and '.join(empty)}: {len(sides)} rows are {counts}.",
            code="insufficient_data",
            remedy=remedy,
        )
