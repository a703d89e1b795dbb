"""One version in memory, ready to answer: fetched, verified by digest, warmed, smoke-tested."""

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app import runtimes
from app.registry import artifacts
from app.runtimes import Answerer, Generator, Predictor, is_generator
from app.runtimes.chat import Conversation, Sampling, Unsupported
from app.runtimes.rows import to_batch
from app.runtimes.schema import InputSchema
from app.serving.schemas import ObjectDecoder, object_decoder
from app.traffic.layout import Layout, layout_of

# The gate's own limit where a definition has dropped the criterion, of a version that answers with labels or with text.
DEFAULT_P99_SECONDS, DEFAULT_TEXT_SECONDS = 1.0, 60.0
# Of a language model so many of its smoke inputs are answered, with so many tokens each: loading waits for them.
SMOKE_PROMPTS, SMOKE_ANSWER = 8, Sampling(temperature=0.0, seed=0, max_tokens=8)
PROFILE = "profile.json"


@dataclass(frozen=True)
class Loaded:
    """`smoke` is {inputs, passed, p99_seconds, reason}: what the smoke inputs showed on this very process.

    It answers with labels or with text: a version that has a `generator` has no attribute `predictor`. What requests
    look at are attributes of its own, for a property costs each of them a call.
    """

    number: int
    answerer: Answerer
    smoke: dict[str, Any]
    profile: dict[str, Any] | None = None  # of the rows that it was trained on; see workers/ml/profile.py
    trained_at: float = 0.0  # seconds since 1970
    predictor: Predictor = field(init=False, repr=False, compare=False)
    generator: Generator | None = field(init=False, repr=False, compare=False)
    schema: InputSchema = field(init=False, repr=False, compare=False)
    is_quick: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        told: dict[str, Any] = {"schema": self.answerer.schema, "is_quick": self.answerer.is_quick}
        told |= {"generator": self.answerer} if is_generator(self.answerer) else {"predictor": self.answerer}
        for name, value in ({"generator": None} | told).items():
            object.__setattr__(self, name, value)

    @property
    def is_sound(self) -> bool:
        return bool(self.smoke["passed"])

    @cached_property
    def objects(self) -> ObjectDecoder | None:
        """Reads JSON rows that are objects of numbers; None where the version reads names, too."""
        schema = self.schema
        if schema.categorical or schema.text or self.generator is not None:
            return None
        return object_decoder([column.name for column in schema.columns])

    @cached_property
    def layout(self) -> Layout:
        """What is counted of its answers."""
        return layout_of(self.schema, self.profile)


def load(store: Path, number: int, artifact: str, p99_limit: float | None, trained_at: float = 0.0) -> Loaded:
    """Blocks: reads and hashes every byte, builds the runtime's session, answers the smoke inputs.

    `p99_limit` None: the usual one of a version of its kind. Raises ArtifactCorrupt, or what the runtime raises.
    """
    folder, manifest = artifacts.verify(store, artifact)
    answerer = runtimes.load(manifest.format, folder)
    profile = orjson.loads((folder / PROFILE).read_bytes()) if PROFILE in manifest.files else None
    return Loaded(number, answerer, smoke_test(answerer, p99_limit), profile, trained_at)


def smoke_test(answerer: Answerer, p99_limit: float | None) -> dict[str, Any]:
    """What the version's smoke inputs showed, one request each."""
    if is_generator(answerer):
        return _of_texts(answerer, DEFAULT_TEXT_SECONDS if p99_limit is None else p99_limit)
    return _of_labels(answerer, DEFAULT_P99_SECONDS if p99_limit is None else p99_limit)


def _of_labels(predictor: Predictor, p99_limit: float) -> dict[str, Any]:
    """All finite, scores in [0, 1], p99 in seconds within the limit."""
    inputs = predictor.smoke_inputs()
    scores: list[float] = []
    seconds: list[float] = []
    for row in inputs:
        started = time.perf_counter()
        predictions = predictor.predict(to_batch([row], predictor.schema))
        seconds.append(time.perf_counter() - started)
        scores += [float(prediction.scores[0]) for prediction in predictions]
    bad = [s for s in scores if not np.isfinite(s) or not 0.0 <= s <= 1.0]
    return _shown(f"{len(bad)} of {len(scores)} smoke scores are not in [0, 1]" if bad else None, seconds, p99_limit)


def _of_texts(generator: Generator, p99_limit: float) -> dict[str, Any]:
    """No answer empty or of a likelihood that is no number, p99 in seconds within the limit."""
    seconds: list[float] = []
    bad = 0
    inputs = generator.smoke_inputs()[:SMOKE_PROMPTS]
    for place, conversation in enumerate(inputs):
        started = time.perf_counter()
        answer = generator.complete(conversation, SMOKE_ANSWER)
        seconds.append(time.perf_counter() - started)
        # A likelihood costs a request for each token; weights that give no number for one text give it for none.
        bad += not answer.text.strip() or not (place or _is_finite(generator, conversation, answer.text))
    return _shown(f"{bad} of {len(inputs)} smoke answers are empty or not finite" if bad else None, seconds, p99_limit)


def _is_finite(generator: Generator, conversation: Conversation, answer: str) -> bool:
    try:
        return math.isfinite(generator.likelihood(conversation, answer).nats)
    except (Unsupported, ValueError):
        return True


def _shown(fault: str | None, seconds: list[float], p99_limit: float) -> dict[str, Any]:
    # The first call builds the runtime's buffers; it is what warming is for, and no request will pay for it.
    p99 = float(np.quantile(seconds[1:] or seconds, 0.99, method="inverted_cdf"))
    if fault is None and p99 > p99_limit:
        fault = f"smoke p99 is {p99:.3f} s, the limit is {p99_limit:g} s"
    return {"inputs": len(seconds), "passed": fault is None, "p99_seconds": round(p99, 6), "reason": fault}
