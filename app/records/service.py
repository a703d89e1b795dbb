"""The change record of a retraining: what was changed, on which evidence, on whose say, and what became of it."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.records.sections import SECTIONS
from app.training.service import get_job


async def change_record(session: AsyncSession, job_id: int) -> dict[str, Any]:
    """One object, a key for each of SECTIONS; null where there is nothing to tell. Raises NotFound."""
    job = await get_job(session, job_id)
    now = (await session.scalars(select(clock()))).one()
    head = {"job_id": job.id, "model": job.model, "version": job.version, "written_at": now}
    return head | {name: await tell(session, job) for name, _, tell in SECTIONS}
