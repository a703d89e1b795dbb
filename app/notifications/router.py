import asyncio
import secrets
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import select

from app.auth.requires import Operator, Viewer
from app.db import clock
from app.errors import Invalid
from app.http import Session
from app.notifications import chat, service
from app.notifications.address import REMEDY, AddressRefused, check_literal
from app.notifications.deliveries import address_of
from app.notifications.messages import message_of_test
from app.notifications.schemas import (
    ChangeTarget,
    CreatedTarget,
    CreateTarget,
    DeliveryDetail,
    DeliveryView,
    Name,
    PutRule,
    RuleView,
    SendOutcome,
    State,
    TargetView,
    check_webhook,
)
from app.notifications.sending import Sender
from app.schemas import Id, ModelName, Page
from app.settings import Network

router = APIRouter(prefix="/notifications", tags=["notifications"])
Named = Annotated[Name, Path()]


@router.get("/targets")
async def list_targets(session: Session, _: Viewer) -> list[TargetView]:
    """Every target, without its secrets."""
    return [TargetView.of(target) for target in await service.list_targets(session)]


@router.get("/targets/{name}")
async def show_target(name: Named, session: Session, _: Viewer) -> TargetView:
    return TargetView.of(await service.get_target(session, name))


@router.post("/targets", status_code=201)
async def create_target(request: Request, body: CreateTarget, session: Session, operator: Operator) -> CreatedTarget:
    """The secret of a webhook is in this answer and in no other."""
    await asyncio.to_thread(_check_url, body.type, body.url, _networks(request))
    async with session.begin():
        target = await service.create_target(session, body, str(operator))
    return CreatedTarget(**TargetView.of(target).model_dump(), secret=target.secret)


@router.patch("/targets/{name}")
async def change_target(
    request: Request, name: Named, body: ChangeTarget, session: Session, operator: Operator
) -> TargetView:
    """Another URL, other headers; `enabled` stops and starts it. Headers go to no other origin unless they are sent."""
    async with session.begin():
        before = await service.get_target(session, name)
    if before.type == "apprise" and body.headers:
        raise Invalid("Apprise sends no headers; they are for webhooks.")
    if body.url is not None:
        await asyncio.to_thread(_check_url, before.type, body.url, _networks(request))
    async with session.begin():
        target = await service.change_target(session, name, body, str(operator))
    return TargetView.of(target)


def _check_url(type: str, url: str, networks: Sequence[Network]) -> None:
    """Raises Invalid for what cannot be sent to, whatever is tried."""
    if type == "apprise":
        chat.check(url)
        return
    try:
        check_webhook(url)
        check_literal(urlsplit(url).hostname or "", networks)
    except ValueError as error:
        raise Invalid(f"The URL is not valid: {error}.", errors=[{"field": "url", "message": str(error)}]) from None
    except AddressRefused as error:
        errors = [{"field": "url", "message": str(error)}]
        raise Invalid(f"{error}.", code="address_refused", remedy=f"{REMEDY}.", errors=errors) from None


def _networks(request: Request) -> Sequence[Network]:
    networks: Sequence[Network] = request.app.state.settings.networks
    return networks


@router.delete("/targets/{name}")
async def delete_target(name: Named, session: Session, operator: Operator) -> TargetView:
    """Its deliveries stay in the log; those that were pending have failed."""
    async with session.begin():
        target = await service.delete_target(session, name, str(operator))
    return TargetView.of(target)


@router.post("/targets/{name}/rotate")
async def rotate_secret(name: Named, session: Session, operator: Operator) -> CreatedTarget:
    """A new secret, in this answer and in no other. For a day messages are signed with both."""
    async with session.begin():
        target = await service.rotate(session, name, str(operator))
    return CreatedTarget(**TargetView.of(target).model_dump(), secret=target.secret)


@router.post("/targets/{name}/test")
async def send_test(name: Named, request: Request, session: Session, _: Operator) -> SendOutcome:
    """Sends a message of the type `notification.test` once, and answers with what became of it."""
    async with session.begin():
        target = await service.get_target(session, name)
        now = (await session.scalars(select(clock()))).one()
    message = message_of_test(f"msg_test_{secrets.token_hex(6)}", now, name)
    sender: Sender = request.app.state.sender
    outcome = await sender.send(address_of(target, now), message, now)
    told = {"status": outcome.status, "ms": outcome.ms, "error": outcome.error}
    return SendOutcome(target=name, message=message.id, delivered=outcome.error is None, **told)


@router.get("/rules")
async def list_rules(session: Session, _: Viewer) -> list[RuleView]:
    return [RuleView.model_validate(rule) for rule in await service.list_rules(session)]


@router.get("/rules/{name}")
async def show_rule(name: Named, session: Session, _: Viewer) -> RuleView:
    return RuleView.model_validate(await service.get_rule(session, name))


@router.put("/rules/{name}")
async def put_rule(name: Named, body: PutRule, session: Session, operator: Operator) -> RuleView:
    """Makes a rule or replaces it. With a target and nothing else it tells what one would want to be woken for."""
    async with session.begin():
        rule = await service.put_rule(session, name, body, str(operator))
    return RuleView.model_validate(rule)


@router.delete("/rules/{name}")
async def delete_rule(name: Named, session: Session, operator: Operator) -> RuleView:
    async with session.begin():
        rule = await service.delete_rule(session, name, str(operator))
    return RuleView.model_validate(rule)


@router.get("/deliveries")
async def list_deliveries(
    session: Session,
    _: Viewer,
    target: Name | None = None,
    rule: Name | None = None,
    model: ModelName | None = None,
    state: State | None = None,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> Page[DeliveryView]:
    """Messages, newest first: to whom, of which events, and what became of them."""
    wanted = {"target": target, "rule": rule, "model": model, "state": state}
    rows = await service.list_deliveries(session, after=after, limit=limit, **wanted)
    page = [DeliveryView.of(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


@router.get("/deliveries/{id}")
async def show_delivery(id: Id, session: Session, _: Viewer) -> DeliveryDetail:
    """One message, with each of its tries."""
    return DeliveryDetail.with_tries(*await service.get_delivery(session, id))


@router.post("/deliveries/{id}/redeliver", status_code=202)
async def redeliver(id: Id, session: Session, operator: Operator) -> DeliveryDetail:
    """Sends it again with the same id, whether it was delivered, has failed, or waits for its next try."""
    async with session.begin():
        delivery, tries = await service.redeliver(session, id, str(operator))
    return DeliveryDetail.with_tries(delivery, tries)
