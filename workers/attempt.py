"""What one attempt does: take the data, train by the pipeline, publish the files, judge what was published."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.ext.asyncio import AsyncSession

from app import runtimes
from app.data import leaks, snapshots, sources
from app.data import service as data
from app.data.language_model import LabelOptions
from app.data.snapshots import Snapshot
from app.data.sources import Reading
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.definitions.service import load
from app.gate import Seen, comparison, judge
from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt, Manifest
from app.registry.lineage import learnt_from
from app.registry.tables import ModelSlots, ModelVersion
from app.runtimes import Predictor
from app.training.tables import TrainingJob
from workers.pipeline import Base, Candidate, Pipeline, PipelineError, Run, TrainingData
from workers.progress import Progress
from workers.strategy import base_of, load_base, with_strategy

Tell = Callable[[dict[str, Any]], None]


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


async def take_inputs(
    session: AsyncSession, store: Path, job_id: int, find: Callable[[str], Pipeline], tell: Tell
) -> tuple[Inputs, Pipeline, Progress]:
    """The stage `snapshot`. A later attempt of a job takes the data version of its first one."""
    job = await session.get_one(TrainingJob, job_id)
    pipeline = find(job.model_type)
    progress = Progress(pipeline.stages, tell, labels=job.labelling is not None)
    progress("stage", name="snapshot", state="started")
    definition = (await load(session, job.model, job.definition_revision)).definition
    version = await _data_version(session, store, job, definition, progress)
    slots = await session.get_one(ModelSlots, job.model)
    base = await base_of(session, job, slots)
    tell({"kind": "figures", "data_digest": version.digest, "base": base.number if base else None})
    snapshot = snapshots.load(store, version, definition)
    await _require_new_samples(session, job, definition, snapshot)
    incumbent = await session.get_one(ModelVersion, (job.model, slots.active)) if slots.active else None
    theirs = await learnt_from(session, incumbent) if incumbent else []
    bases = await learnt_from(session, base) if base else []
    progress("log", message=f"data version {version.digest[:12]}: {version.rows} rows, {version.counts}")
    progress("stage", name="snapshot", state="finished")
    return Inputs(job, definition, version, snapshot, incumbent, theirs, base, bases), pipeline, progress


def train_and_judge(store: Path, inputs: Inputs, pipeline: Pipeline, progress: Progress, fence: int) -> dict[str, Any]:
    """The pipeline's stages, then `publish` and `gate`; for a dry run the plan alone."""
    job = inputs.job
    base = load_base(store, job, inputs.base, pipeline)
    if isinstance(base, str):
        progress("log", message=f"trains in full: {base}")
    run = _run(store, inputs, pipeline, progress, fence, base if isinstance(base, Base) else None)
    if job.stages is not None:
        return {"outcome": "data"}
    if job.dry_run:
        strategy = {"strategy": job.strategy, "base": run.base.version if run.base else None}
        return {"outcome": "plan", "plan": pipeline.plan(run) | strategy}
    candidate = with_strategy(pipeline.train(run), base)
    with run.stage("publish"):
        manifest = artifacts.publish(store, candidate.folder, _manifest(inputs, candidate))
    with run.stage("gate"):
        return _judged(store, inputs, candidate, manifest, run.seed)


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


def _run(store: Path, inputs: Inputs, pipeline: Pipeline, progress: Progress, fence: int, base: Base | None) -> Run:
    job, snapshot = inputs.job, inputs.snapshot
    folder = artifacts.staging_of(store, job.id, fence)
    checkpoints = artifacts.checkpoints_of(store, job.checkpoint_of or job.id)
    for made in (folder, checkpoints, artifacts.shared_of(store)):
        made.mkdir(parents=True, exist_ok=True)
    return Run(
        params=pipeline.params.model_validate(job.params),
        data=TrainingData(
            digest=snapshot.digest,
            labels=snapshot.labels,
            features=snapshot.features,
            categorical=snapshot.categorical,
            positive=snapshot.positive,
            time_ordered=snapshot.time_ordered,
            text=snapshot.text,
            rows=snapshot.rows,
            split=snapshot.split,
        ),
        folder=folder,
        checkpoints=checkpoints,
        shared=artifacts.shared_of(store),
        threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        # The same data and parameters give the same version, whoever trains it and whenever.
        seed=int(snapshot.digest[:8], 16) % 2**31,
        memory_scale=job.memory_scale,
        gate=inputs.definition.gate,
        report=progress,
        base=base,
    )


def _manifest(inputs: Inputs, candidate: Candidate) -> Manifest:
    return Manifest(
        format=candidate.format,
        model_type=inputs.job.model_type,
        data_version=inputs.snapshot.digest,
        code_revision=f"refit {installed('refit')}",
        files={},
        details=candidate.details,
    )


def _judged(store: Path, inputs: Inputs, candidate: Candidate, manifest: Manifest, seed: int) -> dict[str, Any]:
    """Loads what was published as the API will, judges it against the incumbent, and says what is to be recorded."""
    snapshot, incumbent = inputs.snapshot, inputs.incumbent
    holdout = snapshot.rows.filter(pc.equal(snapshot.split, "holdout"))
    report = judge(
        _load(store, manifest.digest),
        _load_incumbent(store, incumbent),
        incumbent.number if incumbent else None,
        holdout,
        inputs.definition.gate,
        mode=inputs.definition.gate_mode,
        data_version=snapshot.digest,
        seed=seed,
        seen=_seen(store, inputs, holdout, candidate.details["base"]),
    )
    measured = {c.name: c.candidate for c in report.criteria if c.candidate is not None and c.slice is None}
    metrics = measured | {f"validation_{name}": value for name, value in candidate.metrics.items()}
    gate = report.model_dump(mode="json")
    version = {
        "data_version": snapshot.digest,
        "format": manifest.format,
        "artifact": manifest.digest,
        "size": manifest.size,
        "metrics": metrics,
        "details": dict(candidate.details),
        "gate": gate,
        "verdict": report.verdict,
        "incumbent": report.incumbent,
    }
    return {
        "outcome": "candidate",
        "version": version,
        "metrics": metrics,
        "comparison": comparison(report),
        "gate": gate,
        "base": candidate.details["base"],
    }


def _seen(store: Path, inputs: Inputs, holdout: pa.Table, base: int | None) -> Seen:
    mine = [inputs.version, *(inputs.bases_data if base is not None else [])]
    by_candidate = leaks.seen_by_any(holdout, inputs.version, mine, store)
    if inputs.incumbent is None:
        return Seen(by_candidate, None)
    return Seen(by_candidate, leaks.seen_by_any(holdout, inputs.version, inputs.incumbents_data, store))


def _load(store: Path, digest: str) -> Predictor:
    folder, manifest = artifacts.verify(store, digest)
    return runtimes.load(manifest.format, folder)


def _load_incumbent(store: Path, incumbent: ModelVersion | None) -> Predictor | None:
    """None where there is none, or where it cannot be loaded: the gate calls that inconclusive, never a pass."""
    if incumbent is None:
        return None
    try:
        return _load(store, incumbent.artifact)
    except (ArtifactCorrupt, ValueError) as error:
        print(f"the incumbent, version {incumbent.number}, cannot be loaded: {error}")
        return None
