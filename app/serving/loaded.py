"""One version in memory, ready to answer: fetched, verified by digest, warmed, smoke-tested."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app import runtimes
from app.registry import artifacts
from app.runtimes import Predictor
from app.runtimes.rows import to_batch
from app.serving.schemas import ObjectDecoder, object_decoder
from app.traffic.layout import Layout, layout_of

# The gate's own limit where a definition has dropped the criterion.
DEFAULT_P99_SECONDS = 1.0
PROFILE = "profile.json"


@dataclass(frozen=True)
class Loaded:
    """`smoke` is {inputs, passed, p99_seconds, reason}: what the smoke inputs showed on this very process."""

    number: int
    predictor: Predictor
    smoke: dict[str, Any]
    profile: dict[str, Any] | None = None  # of the rows that it was trained on; see workers/ml/profile.py

    @property
    def is_sound(self) -> bool:
        return bool(self.smoke["passed"])

    @cached_property
    def objects(self) -> ObjectDecoder | None:
        """Reads JSON rows that are objects of numbers; None where the version reads names, too."""
        schema = self.predictor.schema
        return None if schema.categorical or schema.text else object_decoder([column.name for column in schema.columns])

    @cached_property
    def layout(self) -> Layout:
        """What is counted of its answers."""
        return layout_of(self.predictor.schema, self.profile)


def load(store: Path, number: int, artifact: str, p99_limit: float) -> Loaded:
    """Blocks: reads and hashes every byte, builds the runtime's session, answers the smoke inputs.

    Raises ArtifactCorrupt, or what the runtime raises.
    """
    folder, manifest = artifacts.verify(store, artifact)
    predictor = runtimes.load_predictor(manifest.format, folder)
    profile = orjson.loads((folder / PROFILE).read_bytes()) if PROFILE in manifest.files else None
    return Loaded(number, predictor, smoke_test(predictor, p99_limit), profile)


def smoke_test(predictor: Predictor, p99_limit: float) -> dict[str, Any]:
    """The version's smoke inputs, one request each: all finite, scores in [0, 1], p99 in seconds within the limit."""
    inputs = predictor.smoke_inputs()
    scores: list[float] = []
    seconds: list[float] = []
    for row in inputs:
        started = time.perf_counter()
        predictions = predictor.predict(to_batch([row], predictor.schema))
        seconds.append(time.perf_counter() - started)
        scores += [float(prediction.scores[0]) for prediction in predictions]
    bad = [s for s in scores if not np.isfinite(s) or not 0.0 <= s <= 1.0]
    # The first call builds the runtime's buffers; it is what warming is for, and no request will pay for it.
    p99 = float(np.quantile(seconds[1:] or seconds, 0.99, method="inverted_cdf"))
    reason = f"{len(bad)} of {len(scores)} smoke scores are not in [0, 1]" if bad else None
    if reason is None and p99 > p99_limit:
        reason = f"smoke p99 is {p99:.3f} s, the limit is {p99_limit:g} s"
    return {"inputs": len(inputs), "passed": reason is None, "p99_seconds": round(p99, 6), "reason": reason}
