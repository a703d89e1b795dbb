"""Versions of `fraud` that a running application serves, for tests of what is counted and tried."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.registry.promotion import promote
from app.runtimes.schema import InputSchema
from app.settings import Settings
from tests.artifacts import PROFILE, SCHEMA, publish
from tests.factories import define, version

Make = Callable[..., Awaitable[int]]


def maker(sessions: async_sessionmaker[AsyncSession], config: Settings, folder: Path) -> Make:
    """Publishes a version that passed the gate; it is staged by itself. The score is sigmoid(bias + a)."""

    async def make(
        *,
        bias: float,
        incumbent: int | None = None,
        profile: dict[str, Any] | None = PROFILE,
        model: str = "fraud",
        schema: InputSchema = SCHEMA,
    ) -> int:
        labels = "-".join(map(str, schema.heads[0].labels))
        digest = publish(config.store, folder / f"{model}-{bias}-{labels}", bias=bias, profile=profile, schema=schema)
        async with sessions() as session, session.begin():
            number = await version(session, config, model, artifact=digest, incumbent=incumbent)
            await promote(session, model)
        return number

    return make


async def activate(client: httpx.AsyncClient, model: str = "fraud") -> None:
    answer = await client.post("/model/reload", json={"model": model})
    assert answer.status_code == 200, answer.text


async def predict(client: httpx.AsyncClient, rows: list[Any], **more: Any) -> dict[str, Any]:
    headers = more.pop("headers", {})
    answer = await client.post("/predict/batch", json={"model": "fraud", "instances": rows} | more, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def until_warm(client: httpx.AsyncClient, number: int, model: str = "fraud") -> None:
    async with asyncio.timeout(10):
        while True:
            replicas = (await client.get(f"/model/slots?model={model}")).json()["replicas"]
            if replicas and all(replica["warm"] == number for replica in replicas):
                return
            await asyncio.sleep(0.02)


async def flush(api: FastAPI) -> None:
    """What was answered so far is in Postgres."""
    await api.state.bookkeeping.flush()


async def defined(sessions: async_sessionmaker[AsyncSession], *names: str, **changes: Any) -> None:
    async with sessions() as session, session.begin():
        await define(session, *names, **changes)
