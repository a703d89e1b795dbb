"""Reload and rollback as a caller sees them: wait until the replicas are warm, commit, wait for their receipts.

The coordinator holds nothing: if it dies it has done nothing or everything, and the row says which.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.news import News
from app.registry import swap
from app.registry.swap import Change, ReplicasNotReady, Swapped
from app.registry.tables import ModelSlots, ReplicaSlots, SlotHistory

# Replicas say on this channel that they have warmed a version or written a receipt.
CHANNEL = "refit_replicas"
LOOK_AGAIN_SECONDS = 0.25


@dataclass(frozen=True)
class Receipt:
    """A live replica's record that it answers with generation `served`; `took_ms` from the commit to its flip."""

    id: str
    host: str
    served: int
    took_ms: float | None


@dataclass(frozen=True)
class Settled:
    """What a reload or rollback answers: the slots, the receipts, and the live replicas that gave none in time."""

    slots: ModelSlots
    changed: bool
    replicas: list[Receipt]
    missing: list[str]


@dataclass(frozen=True)
class Coordinator:
    """`wait` seconds are given to each of: replicas getting warm, receipts coming in."""

    sessions: async_sessionmaker[AsyncSession]
    news: News
    wait: float

    async def reload(self, change: Change, *, watch_minutes: float) -> Settled:
        """Raises what swap.reload raises; ReplicasNotReady only after waiting."""
        swapped = await self._when_ready(lambda session: swap.reload(session, change, watch_minutes=watch_minutes))
        return await self._settle(swapped)

    async def rollback(self, change: Change, *, version: int | None, hold: bool) -> Settled:
        """Rollback always works: replicas that cannot load the target in time are left out, as long as one can."""
        async with self.sessions() as session, session.begin():
            target, restored = await swap.restore(session, change, version)
        if restored.slots.active == target:
            return await self._settle(restored)
        # The caller's expectations were met above; putting the target into standby has changed the revision since.
        patient = Change(change.model, change.actor, change.reason)
        try:
            swapped = await self._when_ready(lambda session: swap.rollback(session, patient, target, hold=hold))
        except ReplicasNotReady:
            impatient = Change(change.model, change.actor, change.reason, force=True)
            async with self.sessions() as session, session.begin():
                swapped = await swap.rollback(session, impatient, target, hold=hold)
        return await self._settle(swapped)

    async def _when_ready(self, commit: Callable[[AsyncSession], Awaitable[Swapped]]) -> Swapped:
        """Tries to commit, each time in a transaction of its own, until the replicas are ready or time is up."""
        deadline = time.monotonic() + self.wait
        while True:
            heard = self.news.count
            try:
                async with self.sessions() as session, session.begin():
                    return await commit(session)
            except ReplicasNotReady:
                if time.monotonic() >= deadline:
                    raise
            await self.news.wait(CHANNEL, LOOK_AGAIN_SECONDS, since=heard)

    async def _settle(self, swapped: Swapped) -> Settled:
        """Waits for a receipt from every live replica, and names those that have given none."""
        slots = swapped.slots
        deadline = time.monotonic() + self.wait
        committed_at = None
        while True:
            heard = self.news.count
            async with self.sessions() as session:
                live = await swap.live_replicas(session, slots.model)
                committed_at = committed_at or await _committed_at(session, slots)
            missing = [r for r in live if r.served < slots.generation and str(r.replica) not in swapped.left_out]
            if not missing or time.monotonic() >= deadline:
                break
            await self.news.wait(CHANNEL, LOOK_AGAIN_SECONDS, since=heard)
        receipts = [_receipt(r, committed_at) for r in live if r.served >= slots.generation]
        left = [str(r.replica) for r in live if r.served < slots.generation]
        return Settled(slots, swapped.changed, receipts, left)


async def _committed_at(session: AsyncSession, slots: ModelSlots) -> datetime | None:
    """When the present generation began."""
    query = select(SlotHistory.at).where(SlotHistory.model == slots.model, SlotHistory.generation == slots.generation)
    at: datetime | None = await session.scalar(query.order_by(SlotHistory.id).limit(1))
    return at


def _receipt(replica: ReplicaSlots, committed_at: datetime | None) -> Receipt:
    took = (replica.served_at - committed_at).total_seconds() * 1_000 if replica.served_at and committed_at else None
    return Receipt(
        str(replica.replica), replica.host, replica.served, None if took is None else max(0.0, round(took, 1))
    )
