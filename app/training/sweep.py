"""What keeps jobs moving whoever dies: expired leases are taken back, unanswered bells rung again."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.events.record import REFIT
from app.monitoring.incidents import open_incident
from app.training import state
from app.training.state import JobState

RING_AGAIN_SECONDS = 30.0


async def sweep(session: AsyncSession) -> list[tuple[int, str, int]]:
    """One pass, in the caller's transaction: (job id, queue, priority) of the bells to ring after the commit."""
    for job in await state.expire(session):
        if job.state == JobState.FAILED:
            await open_incident(
                session,
                severity="P2",
                title=f"Job {job.id} of {job.model} lost its worker {job.attempt} times.",
                actor=REFIT,
                model=job.model,
                job_id=job.id,
                evidence=job.error,
            )
    return await state.take_rings(session, RING_AGAIN_SECONDS)
