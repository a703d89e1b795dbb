"""A type whose trainings cost hours, and its jobs without the hours."""

from pathlib import Path
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.tables import DataVersion, Sample
from app.definitions.service import apply
from app.definitions.tables import ModelType
from app.registry.artifacts import checkpoints_of
from app.settings import Settings
from app.training import state
from app.training.tables import TrainingJob
from tests.factories import claim, definition, trigger

DIGEST, PREFERENCES = "d" * 64, "e" * 64
SCHEMA = {
    "type": "object",
    "properties": {"epochs": {"type": "integer"}, "stages": {"type": "array"}},
    "additionalProperties": False,
}
CHATS = {"source": "samples", "key": "id", "chat": {"prompt": "q", "completion": "a"}}
STAGES = ["prepare", "sft", "evaluate", "publish"]


def allowing(config: Settings) -> Settings:
    return config.model_copy(update={"training_enabled": "llm"})


async def define_costly(session: AsyncSession, **changes: Any) -> None:
    """The model `assistant`, with two rows in its source."""
    if await session.get(ModelType, "llm") is None:
        values = {"name": "llm", "summary": "", "queue": "cpu", "params_schema": SCHEMA, "costly": True}
        await session.execute(insert(ModelType).values(values | {"stages": [[name, 0.25] for name in STAGES]}))
    await apply(session, "assistant", definition(**{"type": "llm", "data": CHATS} | changes), actor="test")


async def post(session: AsyncSession, *keys: str) -> None:
    await session.execute(
        insert(Sample), [{"model": "assistant", "key": k, "row": {"id": k, "q": "?", "a": "!"}} for k in keys]
    )


async def data_version(session: AsyncSession, digest: str = DIGEST, rows: int = 2) -> None:
    empty: dict[str, Any] = {"dropped": {}, "labels": [], "columns": [], "split": {}, "source": {"time": None}}
    values = {"model": "assistant", "digest": digest, "rows": rows, "counts": {}, "high_water": str(rows)}
    await session.execute(insert(DataVersion).values(values | empty | {"duplicates": 0, "bytes": 1}))


async def planned(session: AsyncSession, settings: Settings, **asked: Any) -> TrainingJob:
    """A dry run of the two rows that has ended with its plan."""
    job = await trigger(session, settings, "assistant", dry_run=True, **asked)
    held = await claim(session)
    await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(data_digest=DIGEST))
    if await session.get(DataVersion, ("assistant", DIGEST)) is None:
        await data_version(session)
    assert await state.complete_without_version(session, held, {"steps": 3})
    await session.flush()
    return await session.get_one(TrainingJob, job.id, populate_existing=True)


async def left_behind(session: AsyncSession, settings: Settings, job: TrainingJob) -> Path:
    """As if the waiting job had trained on two rows and failed afterwards; its checkpoints."""
    held = await claim(session)
    digests = {"data_digest": DIGEST, "preference_digest": PREFERENCES}
    await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(digests))
    if await session.get(DataVersion, ("assistant", DIGEST)) is None:
        await data_version(session)
    await state.fail(session, held, {"code": "judge_down", "message": "", "remedy": ""})
    folder = checkpoints_of(settings.store, job.id)
    folder.mkdir(parents=True)
    return folder
