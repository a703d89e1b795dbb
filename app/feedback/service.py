"""Feedback: kept as it came, joined to the answer that it speaks of, and counted. Nothing that was accepted is lost.

    pending ─▶ joined      the answer is known; counted in `feedback_counts` in the same transaction
            ├▶ invalid     the answer is known, and has no such row, head or label
            └▶ unknown     no such answer for a day

One transaction of a model at a time writes here, so that a label and its count are always changed together.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.definitions.service import Applied
from app.errors import MOST_ERRORS, Invalid
from app.feedback.answers import find
from app.feedback.joining import Known, Place, add_counts, lock, match_all, row_of
from app.feedback.matching import Fault, Matched
from app.feedback.schemas import FeedbackAccepted, Item
from app.feedback.statements import KEEP, KNOWN
from app.feedback.tables import Feedback


async def post(session: AsyncSession, applied: Applied, items: Sequence[Item], *, sender: str) -> FeedbackAccepted:
    """Keeps all items, or none. Raises Invalid `invalid_feedback` naming each bad item whose answer is known."""
    await lock(session, applied.model)
    first = next(iter(applied.definition.data.label_columns), "")
    placed = [(_place(item, first), item) for item in items]
    answers = await find(session, list({place.request for place, _ in placed}))
    matched = await match_all(session, applied.model, [(place, item.value) for place, item in placed], answers)
    known = await _known(session, applied.model, [place for place, _ in placed])
    _refuse(
        [_no_longer_kept(found, known.get(place), i.value) for found, (place, i) in zip(matched, placed, strict=True)]
    )
    tally: Counter[str] = Counter()
    wanted: dict[Place, tuple[Any, Matched | Fault | None]] = {}
    for (place, item), found in zip(placed, matched, strict=True):
        before = wanted[place][0] if place in wanted else known[place].value if place in known else None
        tally["duplicate"] += before is not None and _same(before, item.value)
        tally["corrected"] += before is not None and not _same(before, item.value)
        wanted[place] = (item.value, found)
    changed = {
        place: told for place, told in wanted.items() if place not in known or not _same(known[place].value, told[0])
    }
    at = await session.scalar(select(func.clock_timestamp()))
    assert at is not None
    rows = [row_of(place, found) | {"value": value} for place, (value, found) in changed.items()]
    await session.execute(
        KEEP, {"model": applied.model, "sender": sender, "at": at, "told": orjson.dumps(rows).decode()}
    )
    await add_counts(session, applied.model, rows, {place: known[place] for place in changed if place in known}, at)
    tally["pending"] = sum(found is None and not _is_joined(known.get(p)) for p, (_, found) in wanted.items())
    return FeedbackAccepted(
        model=applied.model,
        accepted=len(items),
        joined=sum(isinstance(found, Matched) for _, found in changed.values()),
        duplicate=tally["duplicate"],
        corrected=tally["corrected"],
        pending=tally["pending"],
    )


def _place(item: Item, first: str) -> Place:
    head = "" if item.head in (None, first) else str(item.head)
    return Place(item.request, item.row, head, item.kind)


def _refuse(matched: Sequence[Matched | Fault | None]) -> None:
    errors = [
        {"field": f"feedback.{place}.{found.field}", "message": found.message}
        for place, found in enumerate(matched)
        if isinstance(found, Fault)
    ]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise Invalid(
            f"Nothing was accepted: {errors[0]['field']} {errors[0]['message']}{more}.",
            code="invalid_feedback",
            errors=errors[:MOST_ERRORS],
        )


def _no_longer_kept(found: Matched | Fault | None, known: Known | None, value: Any) -> Matched | Fault | None:
    """What was joined stays so: its answer is not looked for again once it is gone. The same again changes nothing."""
    if found is None and known is not None and _is_joined(known) and not _same(known.value, value):
        return Fault("request_id", "is of an answer that is no longer kept; what was said of it before stands")
    return found


def _is_joined(known: Known | None) -> bool:
    return known is not None and known.state == "joined"


async def _known(session: AsyncSession, model: str, places: Sequence[Place]) -> dict[Place, Known]:
    """What was said before of the model's answers. What was said of another model's, and could not be joined, is said
    anew."""
    asked = {
        "requests": [place.request for place in places],
        "rows": [place.row for place in places],
        "heads": [place.head for place in places],
        "kinds": [place.kind for place in places],
    }
    return {Place(*row[:4]): Known(*row[4:]) for row in await session.execute(KNOWN, asked | {"model": model})}


def _same(one: Any, other: Any) -> bool:
    """true is not 1, and 1 is 1.0, as in JSON."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


async def states(session: AsyncSession, model: str, days: float) -> dict[str, int]:
    """How many items there are in each state, of those that came in the last days."""
    recent = Feedback.at > clock() - seconds(days * 86_400)
    query = select(Feedback.state, func.count()).where(Feedback.model == model, recent).group_by(Feedback.state)
    return {row[0]: row[1] for row in await session.execute(query)}
