"""What callers and replicas notice when all connections to Postgres are taken, or Postgres is away."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app import http
from app.main import create_app, lifespan
from app.settings import Settings

LEASE_SECONDS = 0.5


async def test_a_replica_keeps_its_lease_while_requests_have_taken_every_connection(config: Settings) -> None:
    config = config.model_copy(update={"database_pool": 2, "replica_lease_seconds": LEASE_SECONDS})
    app = create_app(config)
    async with lifespan(app), app.state.sessions() as one, app.state.sessions() as other:
        await one.connection()
        await other.connection()
        await asyncio.sleep(2 * LEASE_SECONDS)  # without a heartbeat it would have run out twice
        assert app.state.replica.has_lease


@pytest.mark.parametrize("error", [PoolTimeout("no connection"), OperationalError("SELECT 1", {}, OSError("away"))])
async def test_a_caller_is_asked_to_come_again_where_postgres_does_not_answer(error: Exception) -> None:
    app = FastAPI()
    http.install(app)

    @app.get("/")
    async def fails() -> None:
        raise error

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://refit") as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["Retry-After"] == "2"
