"""What an attempt reads before it trains: the job, its data version, and what the candidate will be judged against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import service as data
from app.data import snapshots, sources
from app.data.language_model import LabelOptions
from app.data.snapshots import Snapshot
from app.data.sources import Reading
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.definitions.service import load
from app.registry import artifacts
from app.registry.lineage import learnt_from
from app.registry.tables import ModelSlots, ModelVersion
from app.training.tables import TrainingJob
from workers.pipeline import Pipeline, PipelineError, params_of
from workers.preferences import Preferred, preferred
from workers.progress import Progress
from workers.strategy import base_of

Tell = Callable[[dict[str, Any]], None]

# What a job can be asked for that no pipeline does: a data version, as its source has it or labelled.
DATA_STAGES = frozenset({"snapshot", "label"})


@dataclass(frozen=True)
class Inputs:
    """All that was read from Postgres: what is asked for, on which rows, from where, judged against which version.

    The data of a version is all that it, or what it goes back to, was trained on.
    """

    job: TrainingJob
    definition: Definition
    version: DataVersion
    snapshot: Snapshot
    incumbent: ModelVersion | None
    incumbents_data: Sequence[DataVersion | None]
    base: ModelVersion | None
    bases_data: Sequence[DataVersion | None]
    preference: Preferred | None = None

    @property
    def learnt_from(self) -> list[DataVersion]:
        """What the candidate itself is trained on."""
        return [self.version, *([self.preference.version] if self.preference else [])]

    @property
    def stages(self) -> frozenset[str] | None:
        """Those of the pipeline that were asked for; None: all of them, or only a data version."""
        asked = frozenset(self.job.stages or ()) - DATA_STAGES
        return asked or None


async def take_inputs(
    session: AsyncSession, store: Path, job_id: int, find: Callable[[str], Pipeline], tell: Tell
) -> tuple[Inputs, Pipeline, Progress]:
    """The stage `snapshot`. A later attempt of a job takes the data version of its first one."""
    job = await session.get_one(TrainingJob, job_id)
    pipeline = find(job.model_type)
    params_of(pipeline, job.params)
    progress = Progress(pipeline.stages, tell, labels=job.labelling is not None)
    progress("stage", name="snapshot", state="started")
    definition = (await load(session, job.model, job.definition_revision)).definition
    # Before it is read: what is written meanwhile is not what was planned on.
    reads = job.data_digest is None and job.data_version == data.LATEST
    marks = await data.marks_of(definition) if reads else {}
    version = await _data_version(session, store, job, definition, progress)
    slots = await session.get_one(ModelSlots, job.model)
    base = await base_of(session, job, slots)
    tell(
        {"kind": "figures", "data_digest": version.digest, "base": base.number if base else None}
        | _marked(marks, "data")
    )
    snapshot = snapshots.load(store, version, definition)
    await _require_new_samples(session, job, definition, snapshot)
    preference = await preferred(session, store, job, definition, pipeline, snapshot, progress)
    if preference is not None:
        digest = preference.version.digest
        tell({"kind": "figures", "preference_digest": digest} | _marked(marks, "data", "preferences"))
    incumbent = await session.get_one(ModelVersion, (job.model, slots.active)) if slots.active else None
    theirs = await learnt_from(session, incumbent) if incumbent else []
    bases = await learnt_from(session, base) if base else []
    progress("log", message=f"data version {version.digest[:12]}: {version.rows} rows, {version.counts}")
    progress("stage", name="snapshot", state="finished")
    inputs = Inputs(job, definition, version, snapshot, incumbent, theirs, base, bases, preference)
    return inputs, pipeline, progress


def _marked(marks: dict[str, str], *names: str) -> dict[str, Any]:
    kept = {name: marks[name] for name in names if name in marks}
    return {"source_marks": kept} if kept else {}


async def _data_version(
    session: AsyncSession, store: Path, job: TrainingJob, definition: Definition, progress: Progress
) -> DataVersion:
    named = await data.resolve(session, job.model, job.data_digest or job.data_version)
    if named is not None and (job.labelling is None or job.data_digest):
        return named
    table = await _rows(session, store, job, definition, named)
    report = None
    if job.labelling is not None:
        # Hours may go by: no transaction stands open meanwhile.
        await session.commit()
        table, report = await _labelled(store, job, definition, table, progress)
    previous = await data.latest_version(session, job.model)
    taken = await snapshots.take(
        job.model, table, definition, store=store, previous=previous, job_id=job.id, labelling=report
    )
    await data.insert_version(session, taken)
    await session.commit()
    return taken


async def _rows(
    session: AsyncSession, store: Path, job: TrainingJob, definition: Definition, named: DataVersion | None
) -> pa.Table:
    if named is not None:
        return snapshots.load(store, named, definition).rows
    since = await data.last_trained(session, job.model)
    reading = Reading(session, job.model, since.high_water if since else None, artifacts.shared_of(store))
    return await sources.find(definition.data.source).read(definition.data, reading)


async def _labelled(
    store: Path, job: TrainingJob, definition: Definition, table: pa.Table, progress: Progress
) -> tuple[pa.Table, dict[str, Any]]:
    from app.data.labelling import relabel

    progress("stage", name="label", state="started")

    def on_progress(done: int, of: int, note: str) -> None:
        progress("progress", share=done / of, note=note)

    options = LabelOptions.model_validate(job.labelling)
    table, report = await relabel(table, definition.data, options, artifacts.shared_of(store), on_progress)
    for column, found in report["agreement"].items():
        kappa = "nothing to compare" if found["kappa"] is None else f"kappa {found['kappa']:.3f}"
        progress("log", message=f"{column}: {found['same']} of {found['compared']} labels as before, {kappa}")
    progress("stage", name="label", state="finished")
    return table, report


async def _require_new_samples(
    session: AsyncSession, job: TrainingJob, definition: Definition, snapshot: Snapshot
) -> None:
    if not job.min_new_samples:
        return
    found = snapshots.new_rows(snapshot, definition, await data.last_trained(session, job.model))
    if found < job.min_new_samples:
        raise PipelineError(
            "insufficient_data",
            f"{found} new labelled samples since the last training; {job.min_new_samples} are required.",
            "Wait for data, lower prerequisites.min_new_samples, or let an operator force with a reason.",
        )
