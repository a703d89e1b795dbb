"""Targets, rules and events that tests begin with."""

import asyncio
import time
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.record import record
from app.events.tables import Event, Outbox
from app.notifications import service
from app.notifications.dispatcher import Dispatcher
from app.notifications.outbox import drain
from app.notifications.schemas import CreateTarget, PutRule
from app.notifications.tables import Delivery, Target

Sessions = async_sessionmaker[AsyncSession]


async def tell(sessions: Sessions, url: str, name: str = "pager", **rule: Any) -> Target:
    """A target, and a rule of the same name that tells it everything at once unless `rule` says otherwise."""
    asked = {"target": name, "kinds": ["*"], "group_seconds": 0, "cooldown_seconds": 0} | rule
    async with sessions() as session, session.begin():
        target = await service.create_target(session, CreateTarget(name=name, url=url), "test")
        await service.put_rule(session, name, PutRule.model_validate(asked), "test")
    await look(sessions)
    await forget(sessions)
    return target


async def forget(sessions: Sessions) -> None:
    """Messages about the targets and rules themselves."""
    from sqlalchemy import delete

    async with sessions() as session, session.begin():
        await session.execute(delete(Delivery))


async def happen(sessions: Sessions, kind: str = "job.failed", **what: Any) -> None:
    async with sessions() as session, session.begin():
        await record(session, kind=kind, actor="test", **what)


async def look(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        while await drain(session):
            pass


async def deliveries(sessions: Sessions) -> list[Delivery]:
    async with sessions() as session:
        return list((await session.scalars(select(Delivery).order_by(Delivery.id))).all())


async def events(sessions: Sessions, kind: str) -> list[Event]:
    async with sessions() as session:
        return list((await session.scalars(select(Event).where(Event.kind == kind).order_by(Event.id))).all())


async def outbox(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(Outbox)) or 0


async def settle(sessions: Sessions, *dispatchers: Dispatcher, seconds: float = 10.0) -> list[Delivery]:
    """Turns until nothing is in the outbox and nothing is pending; the deliveries."""
    deadline = time.monotonic() + seconds
    while True:
        await asyncio.gather(*(dispatcher.turn() for dispatcher in dispatchers))
        await asyncio.sleep(0.02)
        found = await deliveries(sessions)
        if not await outbox(sessions) and all(each.state != "pending" for each in found):
            return found
        assert time.monotonic() < deadline, [(each.state, each.error) for each in found]
