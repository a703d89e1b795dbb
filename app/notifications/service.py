"""Targets and rules, and looking at deliveries."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, not_, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import ForUpdateParameter

from app.db import clock, seconds
from app.definitions.service import load
from app.errors import Invalid, NotFound, Refused, told_name
from app.events.record import record
from app.notifications.deliveries import FREE
from app.notifications.schemas import ChangeTarget, CreateTarget, PutRule, origin
from app.notifications.tables import Delivery, Rule, Target, Try

# For so long both secrets sign, so that a receiver can change its own without losing a message.
ROTATION_SECONDS = 86_400.0

TARGETS = "`refit notifications targets list` or GET /notifications/targets names them."
RULES = "`refit notifications rules list` or GET /notifications/rules names them."
DELIVERIES = "`refit notifications deliveries list` or GET /notifications/deliveries names them."

# On its way: it is being sent, or it is due and waits for nothing but its turn.
UNDER_WAY = and_(Delivery.state == "pending", or_(Delivery.next_at <= clock(), not_(FREE)))


async def list_targets(session: AsyncSession) -> Sequence[Target]:
    return (await session.scalars(select(Target).order_by(Target.name))).all()


async def get_target(session: AsyncSession, name: str, lock: ForUpdateParameter = None) -> Target:
    """Raises NotFound. With `lock` the row stays as it is until the end."""
    target = await session.get(Target, name, populate_existing=True, with_for_update=lock)
    if target is None:
        raise NotFound("No target has this name.", code="target_not_found", remedy=TARGETS)
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
    """A target that is enabled again begins with no failures. Raises NotFound, or Invalid where headers would leak."""
    target = await get_target(session, name, {"key_share": True})
    values = body.model_dump(exclude_none=True)
    if not values:
        return target
    _check_headers_stay(target, body)
    if body.enabled or body.url:
        values |= {"failures": 0, "error": None}
    changed = update(Target).where(Target.name == name).values(values).returning(Target)
    target = (await session.scalars(changed.execution_options(populate_existing=True))).one()
    await _recorded(session, "changed", target, actor, fields=sorted(body.model_fields_set))
    return target


def _check_headers_stay(target: Target, body: ChangeTarget) -> None:
    """A header may be a password of whoever reads the present URL."""
    if body.url is None or body.headers is not None or not target.headers or origin(body.url) == origin(target.url):
        return
    names = ", ".join(map(told_name, sorted(target.headers)))
    raise Invalid(
        f"The URL leads elsewhere, and the headers that are kept ({names}) were meant for where it led before.",
        code="headers_needed",
        remedy="Send headers with it: those for the new one, or {} for none.",
        errors=[{"field": "headers", "message": "needed with a url of another scheme, host or port"}],
    )


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
        raise NotFound("No rule has this name.", code="rule_not_found", remedy=RULES)
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
    """Newest first, from below the id `after`; one more than `limit`. `wanted`: target, rule, model, state.

    Raises NotFound for a name that there is not.
    """
    query = select(Delivery).order_by(Delivery.id.desc()).limit(limit + 1)
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(Delivery, column) == value)
    if after is not None:
        query = query.where(Delivery.id < after)
    found = (await session.scalars(query)).all()
    if not found:
        await _require_known(session, wanted)
    return found


async def _require_known(session: AsyncSession, wanted: Mapping[str, str | None]) -> None:
    """Raises NotFound for a model, target or rule that never was; what was deleted is known by its deliveries."""
    if model := wanted.get("model"):
        await load(session, model)
    for column, get in ((Delivery.target, get_target), (Delivery.rule, get_rule)):
        name = wanted.get(column.key)
        if name and not await session.scalar(select(select(Delivery.id).where(column == name).exists())):
            await get(session, name)


async def get_delivery(session: AsyncSession, id: int) -> tuple[Delivery, Sequence[Try]]:
    """With its tries, the first one first. Raises NotFound."""
    delivery = await session.get(Delivery, id, populate_existing=True)
    if delivery is None:
        raise NotFound(f"No delivery has the id {id}.", code="delivery_not_found", remedy=DELIVERIES)
    tries = await session.scalars(select(Try).where(Try.delivery == id).order_by(Try.id))
    return delivery, tries.all()


async def redeliver(session: AsyncSession, id: int, actor: str) -> tuple[Delivery, Sequence[Try]]:
    """Sends it again, now and with all its tries before it. Raises NotFound, or Refused."""
    delivery, _ = await get_delivery(session, id)
    if not (await get_target(session, delivery.target)).enabled:
        path, name = "/notifications/targets", delivery.target
        remedy = f"Enable it first: `refit notifications targets enable {name}`, or PATCH {path}/{name}."
        raise Refused("Its target is disabled.", code="target_disabled", remedy=remedy)
    now = {"next_at": clock(), "gather_until": clock()}
    again = (
        update(Delivery)
        .where(Delivery.id == id, not_(UNDER_WAY))
        .values(state="pending", attempts=0, ended_at=None, **now)
    )
    if await session.scalar(again.returning(Delivery.id).execution_options(synchronize_session=False)) is None:
        raise Refused("It is on its way already.", code="delivery_under_way", remedy="Ask again in a moment.")
    evidence = {"delivery": id, "target": delivery.target, "message": delivery.message}
    await record(session, kind="notification.redelivered", actor=actor, model=delivery.model, evidence=evidence)
    return await get_delivery(session, id)
