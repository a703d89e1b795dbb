"""A job's events as a stream (server-sent events): what was recorded, with ids to continue from, and its progress."""

from collections.abc import AsyncIterator

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.roles import Principal
from app.events.tables import Event
from app.news import News
from app.training.schemas import JobView
from app.training.service import get_job
from app.training.state import CHANNEL

# A comment line keeps proxies from closing a quiet stream.
QUIET_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 1.0


async def job_events(
    sessions: async_sessionmaker[AsyncSession], news: News, reader: Principal, job_id: int, after: int
) -> AsyncIterator[bytes]:
    """Every event of the job after the id `after`, then each as it happens; ends with `event: end` when the job does.

    `event: progress` carries the job as GET /training/status tells it, and has no id: only the newest one matters.
    """
    told = b""
    quiet = 0.0
    while True:
        async with sessions() as session:
            job = JobView.of(await get_job(session, job_id), reader)
            events = (
                await session.scalars(
                    select(Event).where(Event.job_id == job_id, Event.id > after).order_by(Event.id).limit(500)
                )
            ).all()
        for event in events:
            after = event.id
            body = {"kind": event.kind, "at": event.at, "actor": event.actor, "reason": event.reason}
            yield _message(event.kind, body | {"evidence": event.evidence}, event.id)
        progress = job.model_dump_json().encode()
        if progress != told:
            told, quiet = progress, 0.0
            yield b"event: progress\ndata: " + progress + b"\n\n"
        if job.is_terminal:
            yield b"event: end\ndata: " + progress + b"\n\n"
            return
        if quiet >= QUIET_SECONDS:
            quiet = 0.0
            yield b": still here\n\n"
        await news.wait(CHANNEL, LOOK_AGAIN_SECONDS)
        quiet += LOOK_AGAIN_SECONDS


def _message(kind: str, body: object, id: int) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (id, kind.encode(), orjson.dumps(body))
