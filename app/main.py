"""The API process: engine, doorbell, replica and ticker; plugs in the routers. `python -m app.main` serves it."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from app import db, health, http, metrics, recall, server
from app.auth.keyring import CHANNEL as KEYS_CHANNEL
from app.auth.keyring import KeyRing
from app.auth.router import router as keys
from app.data.router import router as data
from app.definitions.router import router as definitions
from app.evaluation.router import router as evaluation
from app.events.router import router as events
from app.express import Express
from app.feedback.router import router as feedback
from app.incidents.router import router as incidents
from app.monitoring.router import router as monitoring
from app.news import News
from app.notifications.dispatcher import keep_telling
from app.notifications.router import router as notifications
from app.notifications.sending import Sender
from app.queue import Bell
from app.records.router import router as records
from app.registry.coordinator import CHANNEL as REPLICAS_CHANNEL
from app.registry.router import router as registry
from app.registry.swap import CHANNEL as SLOTS_CHANNEL
from app.serving.bookkeeping import Bookkeeping
from app.serving.counting import Counting
from app.serving.directions import Directions
from app.serving.openai import router as openai
from app.serving.plane import Attendance, Serving
from app.serving.predictions import answer_prediction
from app.serving.replica import Replica
from app.serving.router import router as serving
from app.serving.shadow import Shadow
from app.serving.upstream import Upstreams
from app.settings import LOOPBACK, Settings, settings
from app.signoff.router import router as signoff
from app.tick import keep_ticking
from app.training.router import router as training
from app.training.schedule_router import router as schedule
from app.training.state import CHANNEL as JOBS_CHANNEL
from app.trials.router import router as trials
from app.trials.service import CHANNEL as TRIALS_CHANNEL
from app.watch.router import router as watches

log = logging.getLogger("refit")

BACKGROUND_POOL = 6

LANES = {
    ("POST", "/predict/batch"): answer_prediction,
    ("GET", "/training/status"): recall.answer_poll,
    ("GET", "/model/slots"): recall.answer_poll,
}

ROUTERS = (
    training,
    schedule,
    records,
    registry,
    evaluation,
    signoff,
    serving,
    openai,
    definitions,
    data,
    feedback,
    trials,
    events,
    monitoring,
    watches,
    incidents,
    notifications,
    keys,
    health.router,
    metrics.router,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    state, config = app.state, app.state.settings
    engine = db.create_engine(config)
    # Heartbeats, keys and ticks never wait behind requests: a burst of those took a replica its lease (measured).
    background = db.create_engine(config.model_copy(update={"database_pool": BACKGROUND_POOL}))
    state.sessions, own = db.create_sessions(engine), db.create_sessions(background)
    state.keys = KeyRing(own)
    state.bell = Bell(config)
    state.news = News(config, JOBS_CHANNEL, SLOTS_CHANNEL, REPLICAS_CHANNEL, KEYS_CHANNEL, TRIALS_CHANNEL)
    state.memory = recall.Memory(state.news)
    state.replica = Replica(config, own, state.news)
    state.directions = Directions(own)
    counting = Counting()
    state.shadow = Shadow(counting, keeps=config.counting == "on")
    counts = counting if config.counting == "on" else None
    upstreams = Upstreams()
    state.serving = Serving(config, state.replica, state.directions, counts, state.shadow, upstreams, Attendance())
    state.bookkeeping = Bookkeeping(config, own, counting, state.directions)
    state.sender = Sender(config)
    running = [
        asyncio.create_task(work)
        for work in (
            state.news.follow(),
            state.keys.follow(state.news),
            state.replica.run(),
            state.directions.follow(state.news),
            state.shadow.run(),
            keep_ticking(own, config, state.bell),
            keep_telling(own, config, state.sender),
        )
    ]
    for task in running:
        task.add_done_callback(_tell_if_it_failed)
    state.bookkeeping.start()
    await state.replica.joined()
    # What stands now stands until the end: a full collection that walks it holds every request up for that long.
    gc.collect()
    gc.freeze()
    yield
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    state.sender.close()
    await state.bell.drain()
    await state.bookkeeping.close()
    with suppress(SQLAlchemyError, OSError):
        await state.replica.leave()
    await upstreams.close()
    state.replica.close()
    await engine.dispose()
    await background.dispose()


def _tell_if_it_failed(task: asyncio.Task[None]) -> None:
    """None of them ever ends by itself; if one does, it is a fault, and nobody waits for it who could say so."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("a background task ended; restart this process", exc_info=task.exception())


def create_app(config: Settings | None = None) -> FastAPI:
    config = config or settings()
    app = Express(
        LANES,
        title="Refit",
        summary="Retrains models, proves that the new one is better, and swaps it in without dropping a request.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.settings = config
    app.state.routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    http.install(app)
    # The last one added is the first to see a request.
    app.add_middleware(http.LimitBody, limit=config.max_body_bytes)
    app.add_middleware(metrics.CountRequests)
    for router in ROUTERS:
        app.include_router(router, responses=http.PROBLEMS)
    return app


def check_binding(config: Settings) -> None:
    """Raises ValueError where the service would be open to a network without asking who calls."""
    if config.auth == "off" and config.host not in LOOPBACK:
        raise ValueError(
            f"REFIT_AUTH=off serves loopback only, not {config.host}. Remove REFIT_AUTH, or bind 127.0.0.1."
        )


def serve() -> None:
    config = settings()
    try:
        check_binding(config)
        config.database  # noqa: B018 - the property says what to set where it is missing
    except ValueError as error:
        sys.exit(f"refit: {error}")
    server.run("app.main:process", config)


def process() -> FastAPI:
    """The application of one server process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A thread that decodes a large body gives way to the small ones ten times sooner than by default.
    sys.setswitchinterval(0.0005)
    server.keep_freed_memory()
    return create_app()


if __name__ == "__main__":
    serve()
