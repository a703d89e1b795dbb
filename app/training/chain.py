"""All that a job goes back to: the jobs whose checkpoints it went on from, and the dry runs that were confirmed."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.training.tables import TrainingJob


async def chain_of(session: AsyncSession, job_id: int) -> Sequence[TrainingJob]:
    """The job itself first, then backwards.

    `checkpoint_of` is the job that began a folder of checkpoints, so whoever has worked in it before is in the chain.
    """
    columns = (TrainingJob.id, TrainingJob.model, TrainingJob.checkpoint_of, TrainingJob.confirms)
    chain = select(*columns).where(TrainingJob.id == job_id).cte("chain", recursive=True)
    earlier = aliased(TrainingJob)
    same_checkpoints = or_(earlier.id == chain.c.checkpoint_of, earlier.checkpoint_of == chain.c.checkpoint_of)
    goes_back = or_(earlier.id == chain.c.confirms, same_checkpoints)
    chain = chain.union(
        select(earlier.id, earlier.model, earlier.checkpoint_of, earlier.confirms).where(
            earlier.model == chain.c.model, earlier.id < chain.c.id, goes_back
        )
    )
    query = select(TrainingJob).where(TrainingJob.id.in_(select(chain.c.id))).order_by(TrainingJob.id.desc())
    return (await session.scalars(query)).all()
