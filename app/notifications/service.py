"""Targets and rules, and looking at deliveries."""

import base64
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import ForUpdateParameter

from app.db import clock, seconds
from app.definitions.service import load
from app.errors import NotFound, Refused
from app.events.record import record
from app.notifications.deliveries import FREE
from app.notifications.schemas import ChangeTarget, CreateTarget, PutRule
from app.notifications.tables import Delivery, Rule, Target, Try

# For so long both secrets sign, so that a receiver can change its own without losing a message.
ROTATION_SECONDS = 86_400.0


async def list_targets(session: AsyncSession) -> Sequence[Target]:
    return (await session.scalars(select(Target).order_by(Target.name))).all()


async def get_target(session: AsyncSession, name: str, lock: ForUpdateParameter = None) -> Target:
    """Raises NotFound. With `lock` the row stays as it is until the end."""
    target = await session.get(Target, name, populate_existing=True, with_for_update=lock)
    if target is None:
        raise NotFound("No target has this name.", code="target_not_found", remedy="GET /notifications/targets.")
    return target


async def create_target(session: AsyncSession, body: CreateTarget, actor: str) -> Target:
    """Raises Refused where the name is taken."""
    secret = _secret() if body.type == "webhook" else None
    values = body.model_dump() | {"secret": secret, "created_by": actor}
    made = upsert(Target).values(values).on_conflict_do_nothing().returning(Target)
    target: Target | None = await session.scalar(made)
    if target is None:
        remedy = "Choose another name, change that one, or delete it first."
        raise Refused("A target has this name already.", code="target_exists", remedy=remedy)
    await _recorded(session, "created", target, actor)
    return target


async def change_target(session: AsyncSession, name: str, body: ChangeTarget, actor: str) -> Target:
    """A target that is enabled again begins with no failures. Raises NotFound."""
    await get_target(session, name)
    values = body.model_dump(exclude_none=True)
    if body.enabled or body.url:
        values |= {"failures": 0, "error": None}
    if not values:
        return await get_target(session, name)
    changed = update(Target).where(Target.name == name).values(values).returning(Target)
    target = await session.scalar(changed.execution_options(populate_existing=True))
    if target is None:
        return await get_target(session, name)
    await _recorded(session, "changed", target, actor, fields=sorted(body.model_fields_set))
    return target


async def rotate(session: AsyncSession, name: str, actor: str) -> Target:
    """A new secret; the one before signs beside it for a day. Raises NotFound, or Refused for what signs nothing."""
    target = await get_target(session, name, {"key_share": True})
    if target.type != "webhook":
        raise Refused("Only webhooks are signed.", code="no_secret", remedy="Change its URL instead.")
    until = clock() + seconds(ROTATION_SECONDS)
    values = {"secret": _secret(), "previous_secret": target.secret, "previous_until": until}
    rotated = update(Target).where(Target.name == name).values(values).returning(Target)
    target = (await session.scalars(rotated.execution_options(populate_existing=True))).one()
    await _recorded(session, "rotated", target, actor)
    return target


async def delete_target(session: AsyncSession, name: str, actor: str) -> Target:
    """What was still to be sent to it has failed. Raises NotFound, or Refused while a rule names it."""
    target = await get_target(session, name, True)
    rules = (await session.scalars(select(Rule.name).where(Rule.target == name).order_by(Rule.name))).all()
    if rules:
        remedy = "Delete them, or give them another target, first."
        raise Refused("Rules send to this target.", code="target_in_use", remedy=remedy, rules=list(rules))
    ended = {"state": "failed", "error": "its target was deleted", "ended_at": clock()}
    pending = (Delivery.target == name) & (Delivery.state == "pending")
    await session.execute(update(Delivery).where(pending).values(**ended, lease=None, lease_until=None))
    await session.execute(delete(Target).where(Target.name == name))
    await _recorded(session, "deleted", target, actor)
    return target


async def _recorded(session: AsyncSession, what: str, target: Target, actor: str, **evidence: Any) -> None:
    told = {"target": target.name, "type": target.type} | evidence
    state = "on" if target.enabled else "off"
    await record(session, kind=f"notification_target.{what}", actor=actor, after=state, evidence=told)


def _secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


async def list_rules(session: AsyncSession) -> Sequence[Rule]:
    return (await session.scalars(select(Rule).order_by(Rule.name))).all()


async def get_rule(session: AsyncSession, name: str) -> Rule:
    """Raises NotFound."""
    rule = await session.get(Rule, name)
    if rule is None:
        raise NotFound("No rule has this name.", code="rule_not_found", remedy="GET /notifications/rules.")
    return rule


async def put_rule(session: AsyncSession, name: str, body: PutRule, actor: str) -> Rule:
    """Makes the rule, or puts this in its place. Raises NotFound for a target or a model that there is not."""
    await get_target(session, body.target, {"read": True, "key_share": True})
    if body.model is not None:
        await load(session, body.model)
    values = body.model_dump()
    written = upsert(Rule).values(name=name, created_by=actor, **values)
    written = written.on_conflict_do_update(index_elements=[Rule.name], set_=values)
    rule = (await session.scalars(written.returning(Rule), execution_options={"populate_existing": True})).one()
    evidence = {"rule": name} | values
    await record(session, kind="notification_rule.set", actor=actor, model=body.model, evidence=evidence)
    return rule


async def delete_rule(session: AsyncSession, name: str, actor: str) -> Rule:
    """What it has already put on its way is still sent. Raises NotFound."""
    rule = await get_rule(session, name)
    await session.execute(delete(Rule).where(Rule.name == name))
    evidence = {"rule": name, "target": rule.target}
    await record(session, kind="notification_rule.deleted", actor=actor, model=rule.model, evidence=evidence)
    return rule


async def list_deliveries(
    session: AsyncSession, *, after: int | None, limit: int, **wanted: str | None
) -> Sequence[Delivery]:
    """Newest first, from below the id `after`; one more than `limit`. `wanted`: target, rule, model, state."""
    query = select(Delivery).order_by(Delivery.id.desc()).limit(limit + 1)
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(Delivery, column) == value)
    if after is not None:
        query = query.where(Delivery.id < after)
    return (await session.scalars(query)).all()


async def get_delivery(session: AsyncSession, id: int) -> tuple[Delivery, Sequence[Try]]:
    """With its tries, the first one first. Raises NotFound."""
    delivery = await session.get(Delivery, id, populate_existing=True)
    if delivery is None:
        raise NotFound(f"No delivery has the id {id}.", code="delivery_not_found")
    tries = await session.scalars(select(Try).where(Try.delivery == id).order_by(Try.id))
    return delivery, tries.all()


async def redeliver(session: AsyncSession, id: int, actor: str) -> tuple[Delivery, Sequence[Try]]:
    """Sends it again, now and with all its tries before it. Raises NotFound, or Refused."""
    delivery, _ = await get_delivery(session, id)
    if not (await get_target(session, delivery.target)).enabled:
        remedy = "Enable it first: PATCH /notifications/targets/{name}."
        raise Refused("Its target is disabled.", code="target_disabled", remedy=remedy)
    now = {"next_at": clock(), "gather_until": clock()}
    again = update(Delivery).where(Delivery.id == id, FREE).values(state="pending", attempts=0, ended_at=None, **now)
    if await session.scalar(again.returning(Delivery.id).execution_options(synchronize_session=False)) is None:
        raise Refused("It is being sent at this moment.", code="delivery_under_way", remedy="Ask again in a moment.")
    evidence = {"delivery": id, "target": delivery.target, "message": delivery.message}
    await record(session, kind="notification.redelivered", actor=actor, model=delivery.model, evidence=evidence)
    return await get_delivery(session, id)
