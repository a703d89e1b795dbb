"""The life of a message: claimed under a lease, tried, and delivered, tried again later, or given up.

`pending` → `delivered` | `failed`, and back to `pending` by redelivery. A process that dies in the middle of a try
leaves a lease that runs out; the message is then sent again, with the same id: at least once.
"""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.events.record import REFIT, record
from app.events.tables import Event
from app.notifications.sending import Address, Outcome
from app.notifications.tables import Delivery, Target, Try

# Messages to one target at once; to one whose last try failed, one.
AT_ONCE = 4
# So much longer than its turn may a wait be, so that messages which failed together do not come back together.
JITTER = 0.2

FREE: ColumnElement[bool] = or_(Delivery.lease_until.is_(None), Delivery.lease_until < clock())


@dataclass(frozen=True)
class Claimed:
    """A message that this process, and no other, tries to deliver until its lease runs out."""

    id: int
    lease: uuid.UUID
    attempt: int
    message: str
    target: str
    kind: str
    model: str | None
    suppressed: int
    events: Sequence[Event]
    address: Address
    now: datetime


async def claim(session: AsyncSession, *, most: int, lease_seconds: float) -> list[Claimed]:
    """Up to `most` messages that are due, and of each target no more than it takes at once."""
    due = _due().limit(most).cte("due")
    claimed = await session.scalars(
        update(Delivery)
        .where(Delivery.id.in_(select(due.c.id)))
        .values(
            lease=func.gen_random_uuid(),
            lease_until=clock() + seconds(lease_seconds),
            attempts=Delivery.attempts + 1,
        )
        .returning(Delivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    deliveries = claimed.all()
    if not deliveries:
        return []
    now = (await session.scalars(select(clock()))).one()
    targets = {target.name: target for target in await session.scalars(select(Target))}
    wanted = {id for delivery in deliveries for id in delivery.events}
    events = {event.id: event for event in await session.scalars(select(Event).where(Event.id.in_(wanted)))}
    return [_claimed(delivery, targets[delivery.target], events, now) for delivery in deliveries]


def _due() -> Any:
    """Ids of messages that may be sent now: first those to targets that have answered lately."""
    under_way = (
        select(func.count())
        .where(Delivery.target == Target.name, Delivery.state == "pending", Delivery.lease_until > clock())
        .correlate(Target)
        .scalar_subquery()
    )
    takes = case((Target.failures == 0, AT_ONCE), else_=1) - under_way
    of_target = (
        select(Delivery.id)
        .where(Delivery.target == Target.name, Delivery.state == "pending", Delivery.next_at <= clock(), FREE)
        .order_by(Delivery.next_at)
        .limit(func.greatest(takes, 0))
        .with_for_update(skip_locked=True)
        .correlate(Target)
        .lateral("of_target")
    )
    return (
        select(of_target.c.id)
        .select_from(Target)
        .join(of_target, true())
        .where(Target.enabled)
        .order_by(Target.failures)
    )


def _claimed(delivery: Delivery, target: Target, events: dict[int, Event], now: datetime) -> Claimed:
    assert delivery.lease is not None
    return Claimed(
        id=delivery.id,
        lease=delivery.lease,
        attempt=delivery.attempts,
        message=delivery.message,
        target=delivery.target,
        kind=delivery.kind,
        model=delivery.model,
        suppressed=delivery.suppressed,
        events=[events[id] for id in delivery.events],
        address=address_of(target, now),
        now=now,
    )


def address_of(target: Target, now: datetime) -> Address:
    """With the secret before the last rotation, as long as it is still good."""
    before = target.previous_secret if target.previous_until and target.previous_until > now else None
    return Address(
        target.type, target.url, target.headers, tuple(secret for secret in (target.secret, before) if secret)
    )


async def finish(session: AsyncSession, claimed: Claimed, outcome: Outcome, waits: Sequence[float]) -> None:
    """Writes what became of a try. The try is a fact; the message moves only if its lease is still the one claimed."""
    # The target before its message, as whoever deletes it locks them.
    await session.execute(select(Target.name).where(Target.name == claimed.target).with_for_update(key_share=True))
    logged = {"delivery": claimed.id, "attempt": claimed.attempt, "status": outcome.status}
    await session.execute(insert(Try).values(**logged, ms=outcome.ms, error=outcome.error))
    wait = _wait(claimed.attempt, outcome, waits)
    moved = await session.scalar(
        update(Delivery)
        .where(Delivery.id == claimed.id, Delivery.lease == claimed.lease)
        .values(**_after(outcome, wait), lease=None, lease_until=None, error=outcome.error)
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    if moved is None:
        return
    await _note(session, claimed, outcome)
    if outcome.error and wait is None:
        await _give_up(session, claimed, outcome)


def _wait(attempt: int, outcome: Outcome, waits: Sequence[float]) -> float | None:
    """Seconds until the next try; None where there is none. Never sooner than the target asked for."""
    if outcome.gone or attempt > len(waits):
        return None
    return max(waits[attempt - 1] * (1 + JITTER * random.random()), outcome.retry_after or 0.0)


def _after(outcome: Outcome, wait: float | None) -> dict[str, Any]:
    if outcome.error is None:
        return {"state": "delivered", "ended_at": clock()}
    return {"state": "failed", "ended_at": clock()} if wait is None else {"next_at": clock() + seconds(wait)}


async def _note(session: AsyncSession, claimed: Claimed, outcome: Outcome) -> None:
    """Keeps at the target how it answers; one that is gone gets nothing more."""
    of_target = update(Target).where(Target.name == claimed.target)
    if outcome.error is None:
        await session.execute(of_target.where(Target.error.is_not(None)).values(failures=0, error=None))
        return
    await session.execute(of_target.values(failures=Target.failures + 1, error=outcome.error))
    disabled = of_target.where(Target.enabled).values(enabled=False).returning(Target.name)
    if outcome.gone and await session.scalar(disabled):
        reason = "it answered 410: it wants no more messages"
        evidence = {"target": claimed.target, "delivery": claimed.id}
        await record(
            session, kind="notification_target.disabled", actor=REFIT, after="off", reason=reason, evidence=evidence
        )


async def _give_up(session: AsyncSession, claimed: Claimed, outcome: Outcome) -> None:
    """A message about messages leaves no event when it fails: two dead targets would tell each other for ever."""
    if claimed.kind.startswith("notification."):
        return
    evidence = {"target": claimed.target, "delivery": claimed.id, "message": claimed.message, "tries": claimed.attempt}
    await record(
        session,
        kind="notification.failed",
        actor=REFIT,
        model=claimed.model,
        before="pending",
        after="failed",
        reason=outcome.error,
        evidence=evidence,
    )
