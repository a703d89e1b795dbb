"""Reading the evaluation of a version, or of a job that came without one."""

import asyncio
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from app.definitions.service import load
from app.errors import NotFound
from app.evaluation import kept
from app.evaluation.schemas import EvaluationView
from app.registry.swap import get_version
from app.training.service import get_job


async def of_version(session: AsyncSession, store: Path, model: str, number: int, samples: int) -> EvaluationView:
    """Raises NotFound: `model_not_found`, `version_not_found`, `no_evaluation`, `evaluation_not_found`."""
    await load(session, model)
    version = await get_version(session, model, number)
    digest = version.details.get("evaluation")
    return await _read(session, store, digest, f"Version {number} of {model}", version.job_id, number, samples)


async def of_job(session: AsyncSession, store: Path, job_id: int, samples: int) -> EvaluationView:
    """Raises NotFound: `job_not_found`, `no_evaluation`, `evaluation_not_found`."""
    job = await get_job(session, job_id)
    return await _read(session, store, job.evaluation, f"Job {job_id}", job.id, job.version, samples)


async def _read(
    session: AsyncSession, store: Path, digest: str | None, what: str, job: int, version: int | None, samples: int
) -> EvaluationView:
    if digest is None:
        raise NotFound(
            f"{what} has no evaluation.",
            code="no_evaluation",
            remedy="What answers with text has one once the stage evaluate is done; what predicts labels has `gate`.",
        )
    await session.close()
    evaluation = await asyncio.to_thread(kept.read, store, digest)
    return EvaluationView.of(evaluation, digest, job, version, samples)
