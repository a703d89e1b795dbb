"""Where a training starts: from nothing, or from the version that was active when its first attempt began."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.definitions.schemas import Strategy
from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt
from app.registry.tables import ModelSlots, ModelVersion
from app.runtimes.schema import InputSchema
from app.training.tables import TrainingJob
from workers.pipeline import Base, Candidate, Pipeline


async def base_of(session: AsyncSession, job: TrainingJob, slots: ModelSlots) -> ModelVersion | None:
    """The version to start from. A later attempt, or a job that resumes, starts where the first attempt did."""
    is_later = job.base is not None or job.data_digest is not None
    number = job.base if is_later else slots.active
    if job.strategy != "incremental" or number is None:
        return None
    return await session.get_one(ModelVersion, (job.model, number))


def load_base(store: Path, job: TrainingJob, version: ModelVersion | None, pipeline: Pipeline) -> Base | str | None:
    """What to start from, every byte of it verified; None where nobody asked for it, or why it cannot be."""
    if job.strategy != "incremental":
        return None
    if version is None:
        return "no version was active"
    if not pipeline.incremental:
        return f"the {pipeline.name} of this worker cannot start from a version"
    try:
        folder, manifest = artifacts.verify(store, version.artifact)
        schema = InputSchema.model_validate_json((folder / "schema.json").read_bytes())
    except (ArtifactCorrupt, OSError, ValueError) as error:
        return f"version {version.number} cannot be read ({error})"
    return Base(version.number, manifest.format, folder, schema, version.details)


def with_strategy(candidate: Candidate, base: Base | str | None, asked: Strategy) -> Candidate:
    """With what it started from in its details; where that was asked for and is nothing, with the reason."""
    because = base if isinstance(base, str) else candidate.full_because
    went_on = isinstance(base, Base) and because is None
    told: dict[str, Any] = {
        "strategy": "incremental" if went_on else "pull" if asked == "pull" else "full",
        "base": base.version if isinstance(base, Base) and went_on else None,
    }
    reason = {"full_because": because} if because else {}
    return replace(candidate, details={**candidate.details, **told, **reason})
