"""What Prometheus scrapes: requests and predictions; jobs, slots and replicas read from Postgres."""

import os
import time
from collections.abc import Iterable
from functools import lru_cache

from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db import clock
from app.events.tables import Outbox
from app.http import Session
from app.notifications.tables import STATES, Delivery
from app.registry.tables import ModelSlots, ReplicaSlots, SlotHistory
from app.training.state import JobState
from app.training.tables import TrainingJob

router = APIRouter(tags=["operations"])

# The folder in which the processes of one port count together; prometheus-client reads it when it is imported.
SHARED = "PROMETHEUS_MULTIPROC_DIR"

REQUESTS = Counter("refit_requests", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("refit_request_seconds", "Time to answer", ["method", "route"])
PREDICTIONS = Counter("refit_predictions", "Rows predicted", ["model", "version", "slot"])


class CountRequests:
    """ASGI middleware: every request by its route's template, never by its path, so that the labels stay few."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            count(scope["method"], route, status, time.perf_counter() - began)


def count(method: str, route: str, status: int, seconds: float) -> None:
    """One request that was answered after so many seconds."""
    requests, times = _of(method, route, status)
    requests.inc()
    times.observe(seconds)


@lru_cache(maxsize=4096)
def _of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(method, route)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, session: Session) -> Response:
    registry = CollectorRegistry()
    await _read_jobs(session, registry)
    await _read_slots(session, registry)
    await _read_notifications(session, registry)
    has_lease = Gauge("refit_replica_has_lease", "1 while this process is a live replica", registry=registry)
    has_lease.set(request.app.state.replica.has_lease)
    return Response(generate_latest(_counted()) + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _counted() -> CollectorRegistry:
    """What this process has counted; where several share the port, what all of them have: a scrape meets any one."""
    if SHARED not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


async def _read_jobs(session: AsyncSession, registry: CollectorRegistry) -> None:
    gauge = Gauge("refit_jobs", "Jobs by state", ["model", "state"], registry=registry)
    query = select(TrainingJob.model, TrainingJob.state, func.count()).group_by(TrainingJob.model, TrainingJob.state)
    counts = {(model, state): count for model, state, count in await session.execute(query)}
    for model in {model for model, _ in counts}:
        for state in JobState:
            gauge.labels(model, state).set(counts.get((model, state), 0))


async def _read_slots(session: AsyncSession, registry: CollectorRegistry) -> None:
    slot = Gauge("refit_slot_version", "The version in a slot; 0: none", ["model", "slot"], registry=registry)
    generation = Gauge("refit_generation", "Counts changes of active", ["model"], registry=registry)
    held = Gauge("refit_held", "1 while the model's slots are held", ["model"], registry=registry)
    for row in (await session.scalars(select(ModelSlots))).all():
        slot.labels(row.model, "active").set(row.active or 0)
        slot.labels(row.model, "standby").set(row.standby or 0)
        generation.labels(row.model).set(row.generation)
        held.labels(row.model).set(row.hold_reason is not None)
    live = select(ReplicaSlots.model, func.count().label("live")).where(ReplicaSlots.lease_until > clock())
    replicas = await session.execute(live.group_by(ReplicaSlots.model))
    _set(
        Gauge("refit_replicas", "Live replicas", ["model"], registry=registry),
        ((row.model, row.live) for row in replicas),
    )
    swaps = Gauge("refit_swaps_total", "Changes of the slots", ["model", "action"], registry=registry)
    counted = select(SlotHistory.model, SlotHistory.action, func.count()).group_by(
        SlotHistory.model, SlotHistory.action
    )
    for model, action, count in await session.execute(counted):
        swaps.labels(model, action).set(count)


async def _read_notifications(session: AsyncSession, registry: CollectorRegistry) -> None:
    gauge = Gauge("refit_notifications", "Messages by state", ["state"], registry=registry)
    counted = await session.execute(select(Delivery.state, func.count()).group_by(Delivery.state))
    _set(gauge, (dict.fromkeys(STATES, 0) | {row.state: row[1] for row in counted}).items())
    outbox = Gauge("refit_outbox", "Events that nobody has looked at to tell of them", registry=registry)
    outbox.set(await session.scalar(select(func.count()).select_from(Outbox)) or 0)


def _set(gauge: Gauge, rows: Iterable[tuple[str, int]]) -> None:
    for label, value in rows:
        gauge.labels(label).set(value)
