"""What is done now and then with what has grown old."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.feedback.joining import give_up
from app.feedback.log import prune_log
from app.monitoring import traffic
from app.settings import Settings

# Some at a time: a transaction that deletes a month of them would hold up everybody's vacuum.
PRUNE_ANSWERS = text("""
    DELETE FROM answer_blocks WHERE block IN (
        SELECT block FROM answer_blocks WHERE at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY at LIMIT 20000)
""")


async def tidy(session: AsyncSession, settings: Settings) -> None:
    """Fine traffic counts, answers and logged requests beyond their days go; feedback that waited a day gives up."""
    await traffic.prune(session)
    await session.execute(PRUNE_ANSWERS, {"seconds": settings.answers_keep_days * 86_400})
    await prune_log(session)
    await give_up(session)
