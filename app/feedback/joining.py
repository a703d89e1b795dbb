"""Feedback and its answer brought together, at once or later, and counted in the same transaction."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.record import REFIT, record
from app.feedback.answers import Answered, find, labels_of
from app.feedback.matching import Fault, Heads, Matched, match
from app.feedback.statements import COUNT, DUE, DUE_MODELS, GIVE_UP, SETTLE, TOLD_TODAY
from app.traffic import service as traffic

log = logging.getLogger(__name__)

# So many are looked at again by one turn of the chore.
MOST_AT_ONCE = 5_000


class Place(NamedTuple):
    """What a piece of feedback speaks of: its key."""

    request: uuid.UUID
    row: int
    head: str  # empty: the first
    kind: str


class Known(NamedTuple):
    """What was said of a place before, and where that is counted."""

    value: Any
    state: str
    version: int | None
    slot: str | None
    truth: int | None
    predicted: int | None
    at: datetime


async def lock(session: AsyncSession, model: str) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"feedback:{model}"))))


async def join_pending(session: AsyncSession) -> int:
    """A chore: feedback that came before its answer was written down. How many found theirs. What fails with one model
    leaves the others theirs."""
    joined = 0
    for model in sorted((await session.scalars(DUE_MODELS)).all()):
        try:
            async with session.begin_nested():
                joined += await _join_due(session, model)
        except SQLAlchemyError as error:
            log.warning("the feedback of %s could not be joined (%s)", model, error)
    return joined


async def _join_due(session: AsyncSession, model: str) -> int:
    await lock(session, model)
    due = [
        (Place(*row[:4]), row.value, row.at)
        for row in await session.execute(DUE, {"model": model, "most": MOST_AT_ONCE})
    ]
    answers = await find(session, list({place.request for place, _, _ in due}))
    matched = await match_all(session, model, [(place, value) for place, value, _ in due], answers)
    rows = [row_of(place, found) for (place, _, _), found in zip(due, matched, strict=True)]
    if rows:
        await session.execute(SETTLE, {"told": orjson.dumps(rows).decode()})
    for row, (_, _, at) in zip(rows, due, strict=True):
        row["at"] = at
    await add_counts(session, model, rows, {}, None)
    return sum(row["state"] == "joined" for row in rows)


async def give_up(session: AsyncSession) -> int:
    """A chore: what has waited for a day speaks of no answer of ours. Told once a day for a model, not for each."""
    total = 0
    for model, count in (await session.execute(GIVE_UP)).all():
        total += count
        if not await session.scalar(TOLD_TODAY, {"model": model}):
            reason = f"{count} items of feedback speak of answers that are not known"
            await record(
                session, kind="feedback.unknown", actor=REFIT, model=model, reason=reason, evidence={"items": count}
            )
    return total


async def match_all(
    session: AsyncSession,
    model: str,
    asked: Sequence[tuple[Place, Any]],
    answers: Mapping[uuid.UUID, Answered | None],
) -> list[Matched | Fault | None]:
    """Each with its answer: what it is counted as, or what is wrong with it; None where the answer is not known yet."""
    layouts: dict[int, dict[str, Heads]] = {}
    for version in {a.version for a in answers.values() if a is not None and a.model == model}:
        known = await traffic.layouts(session, model, version)
        layouts[version] = {digest: Heads(layout.told) for digest, layout in known.items()}
    found: list[Matched | Fault | None] = []
    for place, value in asked:
        if place.request not in answers:
            found.append(None)
            continue
        answer = answers[place.request]
        heads = layouts[answer.version][answer.layout] if answer is not None and answer.model == model else None
        found.append(match(model, answer, heads, place.row, place.head, place.kind, value))
    right = [one for one in found if isinstance(one, Matched) and one.kind == "label"]
    predicted = await labels_of(session, [(one.answer, one.place, one.row) for one in right])
    for one, label in zip(right, predicted, strict=True):
        one.predicted = label
    return found


def row_of(place: Place, found: Matched | Fault | None) -> dict[str, Any]:
    """As it is kept and counted."""
    row: dict[str, Any] = place._asdict() | {"state": "pending"}
    if isinstance(found, Fault):
        row |= {"state": "invalid", "why": f"{found.field} {found.message}"}
    elif found is not None:
        answer = found.answer
        row |= {"state": "joined", "version": answer.version, "slot": answer.slot, "answered_at": answer.at}
        row |= {"truth": found.truth, "predicted": found.predicted}
    return row


async def add_counts(
    session: AsyncSession,
    model: str,
    rows: Sequence[dict[str, Any]],
    before: Mapping[Place, Known],
    at: datetime | None,
) -> None:
    """Adds what was joined, to the minute in which it came; takes back what was counted of the same places before."""
    names = ("version", "slot", "head", "kind", "truth", "predicted")
    told = [
        {name: row[name] for name in names} | {"at": at or row["at"], "n": 1}
        for row in rows
        if row["state"] == "joined"
    ]
    for place, known in before.items():
        if known.state == "joined":
            told.append(
                {name: getattr(known, name, None) for name in names}
                | {"head": place.head, "kind": place.kind, "at": known.at, "n": -1}
            )
    if told:
        await session.execute(COUNT, {"model": model, "told": orjson.dumps(told).decode()})
