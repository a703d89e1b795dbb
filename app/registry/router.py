import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import recall
from app.auth.requires import Operator, Viewer
from app.definitions.service import load, resolve_model
from app.errors import Invalid, Refused
from app.events.refusals import record_refusal
from app.http import IfNoneMatch, Session
from app.recall import Told
from app.registry import service, swap
from app.registry.coordinator import CHANNEL as REPLICAS_CHANNEL
from app.registry.coordinator import Coordinator
from app.registry.schemas import (
    DifferenceView,
    HistoryView,
    HoldRequest,
    ReloadRequest,
    ReplicaView,
    RollbackRequest,
    SlotsView,
    StageRequest,
    SwapAnswer,
    VersionView,
)
from app.registry.swap import Change
from app.schemas import Id, ModelName, Page, Time

router = APIRouter(prefix="/model", tags=["slots and versions"])
Limit = Annotated[int, Query(ge=1, le=1_000)]
IfMatch = Annotated[str | None, Header(description="the ETag of GET /model/slots")]


@router.get("/slots", response_model=SlotsView)
async def show_slots(
    request: Request, reader: Viewer, model: ModelName | None = None, if_none_match: IfNoneMatch = None
) -> Response:
    """ETag is the revision and what the replicas hold; polls with `If-None-Match` are answered from memory."""
    read = partial(_read, request.app.state.sessions, model)
    key = recall.key_of(request.scope, reader)
    told = await (request.app.state.memory.recall(key, read) if if_none_match else read())
    return recall.response(told, if_none_match)


@router.post("/reload")
async def reload(
    request: Request,
    session: Session,
    operator: Operator,
    body: ReloadRequest | None = None,
    if_match: IfMatch = None,
) -> SwapAnswer:
    """The blue-green swap. 200 with receipts once it is true everywhere, or naming the replicas still missing."""
    body = body or ReloadRequest()
    applied = await resolve_model(session, body.model)
    await session.close()
    change = Change(
        applied.model, str(operator), body.reason, body.expected_active, _revision(if_match), force=body.force
    )
    async with _recording_refusals(session, change):
        return SwapAnswer.of(await _coordinator(request).reload(change, watch_minutes=applied.definition.watch.minutes))


@router.post("/rollback")
async def rollback(
    request: Request, session: Session, operator: Operator, body: RollbackRequest, if_match: IfMatch = None
) -> SwapAnswer:
    """Back to the version before. Needs no gate and no worker; asking twice changes nothing the second time."""
    model = (await resolve_model(session, body.model)).model
    await session.close()
    change = Change(model, str(operator), body.reason, body.expected_active, _revision(if_match))
    async with _recording_refusals(session, change):
        settled = await _coordinator(request).rollback(change, version=body.version, hold=body.hold)
    return SwapAnswer.of(settled)


@router.post("/hold")
async def hold(session: Session, operator: Operator, body: HoldRequest) -> SlotsView:
    """Until it is lifted, nothing automatic changes the slots and reload is refused. Rollback works all the same."""
    async with session.begin():
        model = (await resolve_model(session, body.model)).model
        await swap.hold(session, Change(model, str(operator), body.reason))
    return await _slots(session, model)


@router.post("/unhold")
async def unhold(session: Session, operator: Operator, body: HoldRequest) -> SlotsView:
    async with session.begin():
        model = (await resolve_model(session, body.model)).model
        await swap.unhold(session, Change(model, str(operator), body.reason))
    return await _slots(session, model)


@router.get("/versions")
async def list_versions(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    after: Id | None = None,
    limit: Limit = 50,
) -> Page[VersionView]:
    """Newest first."""
    named = (await resolve_model(session, model)).model
    rows = await service.list_versions(session, named, after=after, limit=limit)
    page = [VersionView.of(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].number) if len(rows) > limit else None)


@router.get("/versions/{model}/{number}")
async def show_version(model: ModelName, number: Id, session: Session, _: Viewer) -> VersionView:
    await load(session, model)
    return VersionView.of(await swap.get_version(session, model, number))


@router.post("/versions/{model}/{number}/stage")
async def stage(
    model: ModelName, number: Id, session: Session, operator: Operator, body: StageRequest | None = None
) -> SlotsView:
    """Puts a version that passed the gate into standby by hand."""
    body = body or StageRequest()
    async with session.begin():
        await load(session, model)
        await swap.stage(session, Change(model, str(operator), body.reason, force=body.force), number)
    return await _slots(session, model)


@router.get("/diff")
async def diff(session: Session, _: Viewer, older: Id, newer: Id, model: ModelName | None = None) -> DifferenceView:
    named = (await resolve_model(session, model)).model
    found = await service.differences(session, named, older, newer)
    return DifferenceView(model=named, older=older, newer=newer, differences=found)


@router.get("/history")
async def show_history(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    at: Time | None = None,
    after: Id | None = None,
    limit: Limit = 50,
) -> Page[HistoryView]:
    """Who was active when, and on whose say.

    With `at` (with a time zone) what was in force at that time, of every model unless one is named, and `made_active`:
    the change that had made its active version active.
    """
    if at is not None and at.tzinfo is None:
        raise Invalid(
            "`at` needs a time zone, such as 2026-11-21T03:00:00Z.",
            errors=[{"field": "at", "message": "no time zone"}],
        )
    if at is not None:
        if model is not None:
            await load(session, model)
        found = [HistoryView.at_time(*each) for each in await service.in_force(session, at, model)]
        return Page(data=found, has_more=False, next=None)
    named = (await resolve_model(session, model)).model
    rows = await service.history(session, named, after=after, limit=limit)
    page = [HistoryView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


@asynccontextmanager
async def _recording_refusals(session: Session, change: Change) -> AsyncIterator[None]:
    """A swap that somebody asked for and did not get stands in the record, once an hour."""
    try:
        yield
    except Refused as refusal:
        async with session.begin():
            await record_refusal(session, refusal, kind="slots.refused", actor=change.actor, model=change.model)
        raise


def _coordinator(request: Request) -> Coordinator:
    state = request.app.state
    return Coordinator(state.sessions, state.news, state.settings.reload_wait_seconds)


async def _read(sessions: async_sessionmaker[AsyncSession], model: str | None) -> Told:
    async with sessions() as session:
        named = (await resolve_model(session, model)).model
        view = await _slots(session, named)
    return Told.of(view, (swap.CHANNEL, named), (REPLICAS_CHANNEL, named), etag=_etag(view))


async def _slots(session: Session, model: str) -> SlotsView:
    slots, replicas = await service.get_slots(session, model)
    return SlotsView.of(slots, [ReplicaView.of(replica) for replica in replicas])


def _etag(view: SlotsView) -> str:
    """The revision first, so that `If-Match` of a reload can be held against it."""
    held = "-".join(f"{r.id[:8]}.{r.served}.{r.warm or 0}.{'e' if r.error else 'o'}" for r in view.replicas)
    return f'"{view.revision}/{held}"'


def _revision(if_match: str | None) -> int | None:
    """The slots' revision in an ETag; `*` and none expect nothing. Raises Invalid."""
    if if_match in (None, "*"):
        return None
    found = re.fullmatch(r'(?:W/)?"(\d+)(?:/[^"]*)?"', if_match)
    if found is None:
        raise Invalid(
            "If-Match is not an ETag of GET /model/slots.",
            errors=[{"field": "If-Match", "message": "not an ETag"}],
        )
    return int(found[1])
