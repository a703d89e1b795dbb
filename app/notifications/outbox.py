"""Out of the outbox: who must be told of an event, and in which message.

One transaction takes events out and puts messages in: neither a fault nor `kill -9` loses an event or tells it twice.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, delete, func, insert, null, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.events.tables import Event, Outbox
from app.notifications.messages import GROUP
from app.notifications.rules import matches, subject
from app.notifications.tables import Cooldown, Delivery, Rule, Target

BATCH = 100
# A message stays of a size that a target takes.
MOST_EVENTS = 50

# Nobody has tried to send it, and its time to gather is not over.
GATHERS: ColumnElement[bool] = (
    (Delivery.state == "pending") & (Delivery.attempts == 0) & (Delivery.gather_until > clock())
)


@dataclass(frozen=True)
class Last:
    """What a rule last did about a subject."""

    suppressed: int
    silent: bool
    gathers: bool


async def drain(session: AsyncSession) -> int:
    """Looks at up to BATCH events, the oldest first. Several processes may do so at once; gives how many there were."""
    oldest = select(Outbox.event_id).order_by(Outbox.event_id).limit(BATCH).with_for_update(skip_locked=True).cte("o")
    taken = delete(Outbox).where(Outbox.event_id.in_(select(oldest.c.event_id))).returning(Outbox.event_id)
    ids = (await session.scalars(taken)).all()
    if ids:
        events = (await session.scalars(select(Event).where(Event.id.in_(ids)).order_by(Event.id))).all()
        for rule in await _rules_for(session, events):
            for event in events:
                if matches(rule, event):
                    await _tell(session, rule, event)
    return len(ids)


async def _rules_for(session: AsyncSession, events: Sequence[Event]) -> Sequence[Rule]:
    """The rules that tell of any of them, locked: what a rule has told is read and written by one at a time."""
    query = select(Rule).join(Target, Target.name == Rule.target).where(Rule.enabled, Target.enabled)
    names = [rule.name for rule in await session.scalars(query) if any(matches(rule, event) for event in events)]
    if not names:
        return ()
    locked = select(Rule).where(Rule.name.in_(names), Rule.enabled).order_by(Rule.name).with_for_update(key_share=True)
    return (await session.scalars(locked.execution_options(populate_existing=True))).all()


async def _tell(session: AsyncSession, rule: Rule, event: Event) -> None:
    last = await _last(session, rule, event) if rule.cooldown_seconds else None
    # What joins a message that is not sent yet disturbs nobody once more.
    if last and last.silent and not last.gathers:
        of_subject = (Cooldown.rule == rule.name) & (Cooldown.subject == subject(event))
        await session.execute(update(Cooldown).where(of_subject).values(suppressed=Cooldown.suppressed + 1))
        return
    suppressed = last.suppressed if last else 0
    delivery = await _join(session, rule, event, suppressed) or await _begin(session, rule, event, suppressed)
    if rule.cooldown_seconds:
        await _remember(session, rule, event, delivery)


async def _last(session: AsyncSession, rule: Rule, event: Event) -> Last | None:
    gathers = select(Delivery.id).where(Delivery.id == Cooldown.delivery, GATHERS).exists()
    query = select(Cooldown.suppressed, Cooldown.until > clock(), gathers)
    of_subject = (Cooldown.rule == rule.name) & (Cooldown.subject == subject(event))
    row = (await session.execute(query.where(of_subject))).one_or_none()
    return Last(*row) if row else None


async def _remember(session: AsyncSession, rule: Rule, event: Event, delivery: int) -> None:
    values = {"until": clock() + seconds(rule.cooldown_seconds), "delivery": delivery, "suppressed": 0}
    told = upsert(Cooldown).values(rule=rule.name, subject=subject(event), **values)
    await session.execute(told.on_conflict_do_update(index_elements=[Cooldown.rule, Cooldown.subject], set_=values))


async def _join(session: AsyncSession, rule: Rule, event: Event, suppressed: int) -> int | None:
    """Puts the event into the message that the rule is gathering. None where there is none, or it is full."""
    if not rule.group_seconds:
        return None
    is_same_model = Delivery.model.is_not_distinct_from(event.model)
    joined: int | None = await session.scalar(
        update(Delivery)
        .where(Delivery.rule == rule.name, Delivery.target == rule.target, GATHERS)
        .where(func.cardinality(Delivery.events) < MOST_EVENTS)
        .values(
            events=func.array_append(Delivery.events, event.id),
            kind=case((Delivery.kind == event.kind, Delivery.kind), else_=GROUP),
            model=case((is_same_model, Delivery.model), else_=null()),
            suppressed=Delivery.suppressed + suppressed,
        )
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return joined


async def _begin(session: AsyncSession, rule: Rule, event: Event, suppressed: int) -> int:
    sent_at = clock() + seconds(rule.group_seconds)
    values = {
        "message": f"msg_{event.id}_{secrets.token_hex(6)}",
        "target": rule.target,
        "rule": rule.name,
        "kind": event.kind,
        "model": event.model,
        "events": [event.id],
        "suppressed": suppressed,
        "next_at": sent_at,
        "gather_until": sent_at,
    }
    return (await session.scalars(insert(Delivery).values(values).returning(Delivery.id))).one()
