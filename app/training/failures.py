"""Failures that repeat: somebody should look why, before the next job fails as well."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.record import REFIT
from app.incidents import links
from app.incidents.service import open_incident
from app.training.tables import TRAINS, TrainingJob

IN_A_ROW = 3


async def open_after_repeated(session: AsyncSession, failed: Sequence[TrainingJob]) -> None:
    """An incident for each model whose last three trainings have failed; one, until somebody closes it."""
    for model in dict.fromkeys(job.model for job in failed):
        row = await _last_ended(session, model)
        if len(row) == IN_A_ROW and all(job.state == "failed" for job in row):
            await _open(session, model, row)


async def _last_ended(session: AsyncSession, model: str) -> Sequence[TrainingJob]:
    """Newest first. What was cancelled says nothing of failures, nor does what was to train nothing."""
    ended = (TrainingJob.model == model) & TrainingJob.state.in_(("completed", "failed")) & TRAINS
    newest = TrainingJob.finished_at.desc(), TrainingJob.id.desc()
    query = select(TrainingJob).where(ended).order_by(*newest).limit(IN_A_ROW)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def _open(session: AsyncSession, model: str, row: Sequence[TrainingJob]) -> None:
    codes = {str(job.id): (job.error or {}).get("code") for job in row}
    await open_incident(
        session,
        severity="P2",
        title=f"{IN_A_ROW} trainings of {model} have failed in a row.",
        actor=REFIT,
        model=model,
        job_id=row[0].id,
        evidence={"codes": codes, "error": row[0].error},
        links=[links.to_job(job.id) for job in row],
        dedupe=f"failures:{model}",
    )
