"""What keeps jobs moving whoever dies: expired leases are taken back, unanswered bells rung again."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.training import state

RING_AGAIN_SECONDS = 30.0


async def sweep(session: AsyncSession) -> list[tuple[int, str, int]]:
    """One pass, in the caller's transaction: (job id, queue, priority) of the bells to ring after the commit."""
    await state.expire(session)
    return await state.take_rings(session, RING_AGAIN_SECONDS)
