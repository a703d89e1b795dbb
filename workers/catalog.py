"""Tells the API which model types this worker trains, with the JSON Schema of their parameters."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.definitions.tables import ModelType
from workers import pipeline


async def publish(session: AsyncSession) -> None:
    """The newest worker to start has the word on what a type takes."""
    for name in pipeline.names():
        found = pipeline.find(name)
        row = {
            "summary": found.summary,
            "queue": found.queue,
            "params_schema": found.params.model_json_schema(),
            "stages": [[stage, share] for stage, share in found.stages.items()],
            "incremental": found.incremental,
            "costly": found.costly,
            "pulls": found.pulls,
            "published_at": clock(),
        }
        upsert = insert(ModelType).values(name=name, **row)
        await session.execute(upsert.on_conflict_do_update(index_elements=["name"], set_=row))
