"""What one attempt does with its inputs: train by the pipeline, publish the files, judge what was published."""

import os
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from app import runtimes
from app.data import leaks
from app.data.snapshots import Snapshot
from app.definitions.schemas import Strategy
from app.gate import Seen, comparison, judge
from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt, Manifest
from app.registry.tables import ModelVersion
from app.runtimes import Predictor
from workers.inputs import Inputs
from workers.pipeline import Base, Candidate, Pipeline, Run, TrainingData
from workers.progress import Progress
from workers.strategy import load_base, with_strategy


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
    trained = pipeline.train(run)
    if trained is None:
        return {"outcome": "data"}
    candidate = with_strategy(trained, base)
    with run.stage("publish"):
        manifest = artifacts.publish(store, candidate.folder, _manifest(inputs, candidate))
    with run.stage("gate"):
        return _judged(store, inputs, candidate, manifest, run.seed)


def _run(store: Path, inputs: Inputs, pipeline: Pipeline, progress: Progress, fence: int, base: Base | None) -> Run:
    job, snapshot = inputs.job, inputs.snapshot
    folder = artifacts.staging_of(store, job.id, fence)
    checkpoints = artifacts.checkpoints_of(store, job.checkpoint_of or job.id)
    for made in (folder, checkpoints, artifacts.shared_of(store)):
        made.mkdir(parents=True, exist_ok=True)
    return Run(
        params=pipeline.params.model_validate(job.params),
        data=_data(snapshot),
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
        preference=_data(inputs.preference.snapshot) if inputs.preference else None,
        stages=inputs.stages,
        strategy=cast("Strategy", job.strategy),
    )


def _data(snapshot: Snapshot) -> TrainingData:
    return TrainingData(
        digest=snapshot.digest,
        labels=snapshot.labels,
        features=snapshot.features,
        categorical=snapshot.categorical,
        positive=snapshot.positive,
        time_ordered=snapshot.time_ordered,
        text=snapshot.text,
        rows=snapshot.rows,
        split=snapshot.split,
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
    mine = [*inputs.learnt_from, *(inputs.bases_data if base is not None else [])]
    by_candidate = leaks.seen_by_any(holdout, inputs.version, mine, store)
    if inputs.incumbent is None:
        return Seen(by_candidate, None)
    return Seen(by_candidate, leaks.seen_by_any(holdout, inputs.version, inputs.incumbents_data, store))


def _load(store: Path, digest: str) -> Predictor:
    folder, manifest = artifacts.verify(store, digest)
    return runtimes.load_predictor(manifest.format, folder)


def _load_incumbent(store: Path, incumbent: ModelVersion | None) -> Predictor | None:
    """None where there is none, or where it cannot be loaded: the gate calls that inconclusive, never a pass."""
    if incumbent is None:
        return None
    try:
        return _load(store, incumbent.artifact)
    except (ArtifactCorrupt, ValueError) as error:
        print(f"the incumbent, version {incumbent.number}, cannot be loaded: {error}")
        return None
