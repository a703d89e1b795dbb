"""The stage `gate` of what predicts labels: the published files are loaded as the API will load them, and judged."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app import runtimes
from app.data import leaks
from app.gate import Seen, comparison, judge
from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt, Manifest
from app.registry.tables import ModelVersion
from app.runtimes import Predictor
from workers.inputs import Inputs
from workers.pipeline import Candidate


def judged(store: Path, inputs: Inputs, candidate: Candidate, manifest: Manifest, seed: int) -> dict[str, Any]:
    """{metrics, comparison, gate} of the candidate beside the incumbent, on the same holdout rows."""
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
        seen=seen(store, inputs, holdout, candidate.details["base"]),
    )
    measured = {c.name: c.candidate for c in report.criteria if c.candidate is not None and c.slice is None}
    metrics = measured | {f"validation_{name}": value for name, value in candidate.metrics.items()}
    return {"metrics": metrics, "comparison": comparison(report), "gate": report.model_dump(mode="json")}


def seen(store: Path, inputs: Inputs, holdout: pa.Table, base: int | None) -> Seen:
    """Which rows of the holdout the versions were trained on. A pulled candidate has learnt from none of Refit's."""
    trained = [] if inputs.job.strategy == "pull" else inputs.learnt_from
    mine = [*trained, *(inputs.bases_data if base is not None else [])]
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
