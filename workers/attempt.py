"""What one attempt does with its inputs: train by the pipeline, then publish and judge what came of it.

What predicts labels is published, then judged by the gate (`judging.py`); what answers with text is evaluated, then
published (`evaluation.py`). Either way what is judged are the published files, as they will be served.
"""

import os
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, cast

from app.data.snapshots import Snapshot
from app.definitions.schemas import Strategy
from app.registry import artifacts
from app.registry.artifacts import Manifest
from workers import evaluation, judging
from workers.inputs import Inputs
from workers.pipeline import Base, Candidate, Pipeline, Run, TrainingData
from workers.progress import Progress
from workers.strategy import load_base, with_strategy

# No version comes of it: what was asked for lies in the data versions, or in the checkpoints.
NO_VERSION = {"outcome": "data"}
UNASKED = "no version was asked for: the stage publish is not among the stages"


def train_and_judge(store: Path, inputs: Inputs, pipeline: Pipeline, progress: Progress, fence: int) -> dict[str, Any]:
    """The pipeline's stages, then those that publish and judge; for a dry run the plan alone."""
    job = inputs.job
    base = load_base(store, job, inputs.base, pipeline)
    if isinstance(base, str):
        progress("log", message=f"trains in full: {base}")
    run = _run(store, inputs, pipeline, progress, fence, base if isinstance(base, Base) else None)
    if job.stages is not None and inputs.stages is None:
        return _no_version(progress)
    if job.dry_run:
        strategy = {"strategy": job.strategy, "base": run.base.version if run.base else None}
        return {"outcome": "plan", "plan": pipeline.plan(run) | strategy}
    trained = pipeline.train(run)
    if trained is None:
        return _no_version(progress)
    candidate = with_strategy(trained, base, run.strategy)
    if inputs.definition.generates:
        return _evaluated(store, inputs, run, candidate, progress)
    with run.stage("publish"):
        manifest = artifacts.publish(store, candidate.folder, _manifest(inputs, candidate))
    with run.stage("gate"):
        found = judging.judged(store, inputs, candidate, manifest, run.seed)
    return {"outcome": "candidate", "version": _version(candidate, manifest, found)} | found | _base(candidate)


def _no_version(progress: Progress) -> dict[str, Any]:
    """The note stays with the job, as its last word."""
    progress("figures", progress_note=UNASKED)
    return NO_VERSION


def _evaluated(store: Path, inputs: Inputs, run: Run, candidate: Candidate, progress: Progress) -> dict[str, Any]:
    """`evaluate` and `publish`, or those of them that are wanted: an evaluation alone leaves no version."""
    wanted = evaluation.wanted(run)
    if not wanted:
        return _no_version(progress)
    with run.stage("evaluate"):
        manifest = artifacts.publish(store, candidate.folder, _manifest(inputs, candidate))
        found = evaluation.evaluated(store, inputs, run, candidate, manifest)
    if "publish" not in wanted:
        return {"outcome": "evaluation"} | found
    with run.stage("publish"):
        version = _version(candidate, manifest, found, evaluation=found["evaluation"])
        return {"outcome": "candidate", "version": version} | found | _base(candidate)


def _version(candidate: Candidate, manifest: Manifest, found: dict[str, Any], **details: Any) -> dict[str, Any]:
    """The row that publishes the artifact, with what was `found` of it: metrics and gate."""
    return {
        "data_version": manifest.data_version,
        "format": manifest.format,
        "artifact": manifest.digest,
        "size": manifest.size,
        "metrics": found["metrics"],
        "details": {**candidate.details, **({"seconds": candidate.seconds} if candidate.seconds else {}), **details},
        "gate": found["gate"],
        "verdict": found["gate"]["verdict"],
        "incumbent": found["gate"]["incumbent"],
    }


def _base(candidate: Candidate) -> dict[str, Any]:
    return {"base": candidate.details["base"]}


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
