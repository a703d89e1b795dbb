"""What keeps jobs moving whoever dies: expired leases are taken back, unanswered bells rung again."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.training import state

RING_AGAIN_SECONDS = 30.0


async def sweep(session: AsyncSession) -> None:
    """Takes jobs from runners that went silent; one that lost its worker too often opens an incident."""
    await state.expire(session)


async def ring(session: AsyncSession) -> list[tuple[int, str, int]]:
    """(job id, queue, priority) of the bells that are due: to be rung once the caller has committed."""
    return await state.take_rings(session, RING_AGAIN_SECONDS)
