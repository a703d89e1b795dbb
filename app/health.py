"""Is the process up, may it get traffic, and what is it. None of these needs a key."""

import os
import time
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.errors import Unavailable

router = APIRouter(prefix="/health", tags=["operations"])
STARTED = time.monotonic()


@router.head("/live", include_in_schema=False)
@router.get("/live")
async def live() -> dict[str, str]:
    """200 while the process answers at all."""
    return {"status": "live"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready")
async def ready(request: Request) -> dict[str, str]:
    """200 while this replica holds its lease and answers with the present generation of every model; else 503."""
    replica = request.app.state.replica
    if request.app.state.leaving:
        raise Unavailable("This replica is leaving.", code="leaving", remedy="Ask another one.")
    if replica.unloaded:
        raise Unavailable(
            f"{len(replica.unloaded)} models are not loaded yet.",
            code="loading",
            remedy="Wait a moment; `refit slots` or GET /health tells what is loaded.",
        )
    if not replica.has_lease:
        raise Unavailable(
            "Postgres has not renewed this replica's lease.",
            code="no_lease",
            remedy="It has just started, or cannot reach Postgres: look into its log where this lasts.",
        )
    return {"status": "ready"}


@router.get("")
async def health(request: Request, response: Response) -> dict[str, Any]:
    """Everything at once, for people: this process, Postgres, and what it serves."""
    state = request.app.state
    postgres = await _postgres(request)
    response.status_code = 200 if postgres == "ok" and state.replica.has_lease else 503
    return {
        "status": "ok" if response.status_code == 200 else "degraded",
        "version": version("refit"),
        "replica": str(state.replica.id),
        "pid": os.getpid(),
        "uptime_seconds": round(time.monotonic() - STARTED, 1),
        "postgres": postgres,
        "lease": state.replica.has_lease,
        "models": {
            name: {
                "generation": slots.generation,
                "active": slots.active.number if slots.active else None,
                "standby": slots.standby.number if slots.standby else None,
            }
            for name, slots in state.replica.slots.items()
        },
    }


async def _postgres(request: Request) -> str:
    try:
        async with request.app.state.sessions() as session:
            await session.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError):
        return "away"
    return "ok"
