"""What is done now and then with what has grown old."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.feedback.joining import give_up
from app.feedback.log import prune_log
from app.settings import Settings
from app.traffic import service as traffic

# Some at a time: a transaction that deletes a month of them would hold up everybody's vacuum.
PRUNE_ANSWERS = text("""
    WITH old AS (
        SELECT block FROM answer_blocks WHERE at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY at LIMIT 20000),
    pairs AS (DELETE FROM mirrored WHERE block IN (SELECT block FROM old))
    DELETE FROM answer_blocks WHERE block IN (SELECT block FROM old)
""")
# What monitors found that was no news, and messages that have arrived or were given up. Their events stay.
PRUNE_CHECKS = text("""
    DELETE FROM monitor_checks WHERE id IN (
        SELECT id FROM monitor_checks WHERE at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY at LIMIT 20000)
""")
PRUNE_DELIVERIES = text("""
    WITH old AS (
        SELECT id FROM notification_deliveries
        WHERE state <> 'pending' AND created_at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY id LIMIT 20000),
    tries AS (DELETE FROM notification_tries WHERE delivery IN (SELECT id FROM old))
    DELETE FROM notification_deliveries WHERE id IN (SELECT id FROM old)
""")


async def tidy(session: AsyncSession, settings: Settings) -> None:
    """Fine traffic counts, answers, logged requests, checks and deliveries beyond their days go; feedback that waited a
    day gives up.
    """
    await traffic.prune(session)
    await session.execute(PRUNE_ANSWERS, {"seconds": settings.answers_keep_days * 86_400})
    await prune_log(session)
    if settings.retain_log_days:
        for old in (PRUNE_CHECKS, PRUNE_DELIVERIES):
            await session.execute(old, {"seconds": settings.retain_log_days * 86_400})
    await give_up(session)
