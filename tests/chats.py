"""Language models that a running application serves: the tiny base under different cards, for tests of serving."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.definitions.schemas import Definition
from app.definitions.service import apply
from app.definitions.tables import ModelType
from app.registry import artifacts
from app.registry.artifacts import Manifest
from app.registry.promotion import promote
from app.server import Server
from app.settings import Settings
from tests.factories import version
from tests.ggufs import tiny_card, write_artifact

Make = Callable[..., Awaitable[int]]

SUM, CAPITAL = "What is 2 plus 3?", "What is the capital of Peru?"
# A card whose version ends its answers before the sum: what it says is not what the other one says.
SHORT = {"stop": ("<|im_end|>", " is")}
# What makes the tiny model repeat itself: an answer of a thousand tokens, which takes a second.
LONG: Any = {"presence_penalty": -2, "frequency_penalty": -2, "max_tokens": 1_000}


async def define_chat(session: AsyncSession, name: str, **changes: Any) -> None:
    """A model that answers with text, of rows that are posted; nobody is asked before its reload."""
    if await session.get(ModelType, "talker") is None:
        schema = {"type": "object", "additionalProperties": False}
        values = {"name": "talker", "summary": "", "queue": "cpu", "params_schema": schema, "stages": []}
        await session.execute(insert(ModelType).values(values))
    body: dict[str, Any] = {
        "type": "talker",
        "data": {"source": "samples", "chat": {"prompt": "prompt", "completion": "completion"}},
        "prerequisites": {"min_new_samples": 0},
        "watch": {"minutes": 0},
        "signoff": {"count": 0},
    }
    await apply(session, name, Definition.model_validate(body | changes), actor="test")


def talker(sessions: async_sessionmaker[AsyncSession], config: Settings, folder: Path) -> Make:
    """Publishes a version that passed the gate; it is staged by itself. `card` are fields of its card."""

    async def make(*, model: str = "qa", incumbent: int | None = None, **card: Any) -> int:
        number = (incumbent or 0) + 1
        digest = publish_chat(config.store, folder / f"{model}-{number}", number=number, **card)
        async with sessions() as session, session.begin():
            number = await version(session, config, model, artifact=digest, incumbent=incumbent, format="llama_cpp")
            await promote(session, model)
        return number

    return make


def publish_chat(store: Path, folder: Path, *, number: int = 1, context: int = 2048, **card: Any) -> str:
    write_artifact(folder, tiny_card(context=context, base=f"tiny {number}", **card))
    weights = folder / "model.gguf"
    content = weights.resolve()
    weights.unlink()
    shutil.copy(content, weights)
    unnamed = Manifest(
        format="llama_cpp", model_type="talker", data_version="d" * 64, code_revision="test", files={}, details={}
    )
    return artifacts.publish(store, folder, unnamed).digest


@contextlib.asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[tuple[str, Server]]:
    """The application behind the real server in this process; httpx's own transport would hold a stream back."""
    # By its protocol asyncio knows that it may send small parts at once.
    with socket.socket(proto=socket.IPPROTO_TCP) as held:
        held.bind(("127.0.0.1", 0))
        server = Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none", proxy_headers=False))
        serving = asyncio.create_task(server._serve([held]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{held.getsockname()[1]}", server
        finally:
            server.should_exit = True
            await serving


async def reload(client: httpx.AsyncClient, model: str = "qa") -> dict[str, Any]:
    answer = await client.post("/model/reload", json={"model": model})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told
