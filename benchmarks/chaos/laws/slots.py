"""Truths 7, 9, 10 and 11: a swap is one change of one row, done once, recorded once."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.chaos.history import History, Operation
from benchmarks.chaos.laws.violation import Violation
from benchmarks.chaos.truth import Change, Truth

SWAPS = {"reload": "reloaded", "rollback": "rolled_back"}
# The answer comes from the database's clock and ours, which are the same machine's, read at different moments.
TOLERANCE_SECONDS = 0.05
# What was refused, or has to wait, changes nothing.
NO_CHANGE = ("slots.refused", "slots.put_off")


def slots_change_one_by_one(_: History, truth: Truth) -> Iterator[Violation]:
    """Revisions follow one another without gaps; the generation grows by one where active changes and else stays."""
    changes = _by_model(truth)
    for slots in truth.slots:
        blank = Change(0, 0.0, slots.model, "", None, None, None, 0, 0)
        rows = [blank, *changes.get(slots.model, [])]
        for before, after in pairwise(rows):
            swapped = after.active != before.active
            if after.revision != before.revision + 1 or after.generation != before.generation + swapped:
                yield Violation(f"the slots of {slots.model} jumped", (before, after))
        last = rows[-1]
        if (last.active, last.standby, last.generation, last.revision) != (
            *(slots.active, slots.standby),
            *(slots.generation, slots.revision),
        ):
            yield Violation(f"the slots of {slots.model} are not what their history says", (slots, last))


def every_change_is_recorded_once(_: History, truth: Truth) -> Iterator[Violation]:
    """Each row of the history has one event, in the same order and with the same words."""
    for model, changes in _by_model(truth).items():
        told_of = [e for e in truth.events if e.model == model and e.kind.startswith("slots.")]
        events = [e for e in told_of if e.kind not in NO_CHANGE]
        told, written = [(e.kind, e.after) for e in events], [(f"slots.{c.action}", c.after) for c in changes]
        if told != written:
            missing = [c for c, said in zip(changes, written, strict=True) if said not in told]
            extra = [e for e, said in zip(events, told, strict=True) if said not in written]
            yield Violation(f"{len(events)} events for {len(changes)} changes of {model}", (*missing, *extra))


def a_swap_is_done_once(history: History, truth: Truth) -> Iterator[Violation]:
    """What was asked for once is done at most once, and exactly once where the answer says so; nothing else is done."""
    done: dict[str | None, list[Change]] = defaultdict(list)
    for change in truth.changes:
        if change.action in SWAPS.values():
            done[change.reason].append(change)
    for operation in (o for o in history.operations if o.kind in SWAPS):
        changes = done.pop(operation.asked["reason"], [])
        if not _fits(operation, changes):
            what = f"{operation.kind} was answered {operation.status} and done {len(changes)} times"
            yield Violation(what, (operation, *changes))
        for change in changes:
            if change.at < operation.sent - TOLERANCE_SECONDS:
                yield Violation(f"{operation.kind} was done before it was asked for", (operation, change))
    for reason, changes in done.items():
        yield Violation(f"nobody asked for the swap {reason!r}", tuple(changes))


def _fits(operation: Operation, changes: list[Change]) -> bool:
    expected_action = all(change.action == SWAPS[operation.kind] for change in changes)
    if operation.status == 200:
        expected = 1 if operation.told["changed"] else 0
        return expected_action and len(changes) == expected
    refused = operation.status is not None and operation.status < 500
    return expected_action and len(changes) <= (0 if refused else 1)


def _by_model(truth: Truth) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = defaultdict(list)
    for change in truth.changes:
        found[change.model].append(change)
    return found
