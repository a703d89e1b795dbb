"""What a version goes back to: a training that starts from the active version inherits what that was trained on."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.data.tables import DataVersion
from app.registry.tables import ModelVersion
from app.training.tables import TrainingJob


async def lineage(session: AsyncSession, model: str, number: int) -> Sequence[ModelVersion]:
    """The version, the one that it started from, the one which that started from, and so on; newest first."""
    of_model = ModelVersion.model == model
    base = ModelVersion.details["base"].as_integer()
    chain = select(ModelVersion.number, base.label("base")).where(of_model, ModelVersion.number == number)
    back = chain.cte("back", recursive=True)
    older = aliased(ModelVersion)
    # A base is always older; what says otherwise must not make the query run for ever.
    is_base = (older.model == model) & (older.number == back.c.base) & (older.number < back.c.number)
    back = back.union_all(select(older.number, older.details["base"].as_integer()).join(back, is_base))
    query = select(ModelVersion).where(of_model, ModelVersion.number.in_(select(back.c.number)))
    return (await session.scalars(query.order_by(ModelVersion.number.desc()))).all()


async def learnt_from(session: AsyncSession, version: ModelVersion) -> list[DataVersion | None]:
    """The data versions that a version and all that it goes back to were trained on, preferences among them; None for
    one without a record."""
    back = await lineage(session, version.model, version.number)
    jobs = select(TrainingJob.preference_digest).where(TrainingJob.id.in_([each.job_id for each in back]))
    preferences = (await session.scalars(jobs.order_by(TrainingJob.id.desc()))).all()
    digests = dict.fromkeys([*(each.data_version for each in back), *(each for each in preferences if each)])
    return [await session.get(DataVersion, (version.model, digest)) for digest in digests]
