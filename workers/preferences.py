"""What a job's stage `preference` learns from, as a data version that later attempts of the job take again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from app.data import preferences, snapshots
from app.data import service as data
from app.data.snapshots import Snapshot
from app.data.tables import PREFERENCE, DataVersion
from app.definitions.schemas import Definition
from app.errors import Invalid
from app.training.tables import TrainingJob
from workers.pipeline import Pipeline
from workers.progress import Progress

STAGE = "preference"


@dataclass(frozen=True)
class Preferred:
    version: DataVersion
    snapshot: Snapshot


def is_on_the_way(job: TrainingJob, stages: Mapping[str, float]) -> bool:
    """Whether what was asked for comes after that stage, or is it. `stages` are the pipeline's, in their order."""
    switched_on = job.params.get("stages")
    if STAGE not in stages or job.strategy == "pull" or (switched_on is not None and STAGE not in switched_on):
        return False
    order = list(stages)
    asked = order if job.stages is None else [name for name in job.stages if name in order]
    return any(order.index(name) >= order.index(STAGE) for name in asked)


async def preferred(
    session: AsyncSession,
    store: Path,
    job: TrainingJob,
    definition: Definition,
    pipeline: Pipeline,
    snapshot: Snapshot,
    progress: Progress,
) -> Preferred | None:
    """None where the definition has none, where the job does not come there, and where nobody has judged yet."""
    if definition.preference is None or not is_on_the_way(job, pipeline.stages):
        return None
    version = job.preference_digest and await data.resolve(session, job.model, job.preference_digest, PREFERENCE)
    if not version:
        try:
            version = await preferences.take(session, job.model, definition, store=store, data=snapshot, job_id=job.id)
        except Invalid as error:
            if not _comes_later(job, definition, error):
                raise
            progress("log", message=f"no preference learning: {error.message}")
            return None
        await session.commit()
    progress("log", message=f"preferences {version.digest[:12]}: {version.rows} rows, {version.counts}")
    return Preferred(version, snapshots.load(store, version, preferences.definition_of(definition)))


def _comes_later(job: TrainingJob, definition: Definition, error: Invalid) -> bool:
    """Feedback comes once a version is served: trainings before do without, unless they were asked for just that."""
    assert definition.preference is not None
    from_feedback = definition.preference.data.source == "feedback"
    return from_feedback and error.code == "insufficient_data" and STAGE not in (job.stages or [])
