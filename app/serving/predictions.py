"""One prediction: body → rows → the version's answer → bytes. The hot path: it is measured, line by line."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson
from prometheus_client import Counter
from starlette.types import Receive, Scope

from app.auth.requires import authenticate
from app.auth.roles import Role
from app.errors import Invalid, RefitError, Unavailable
from app.express import Answer
from app.http import header, read_body, refusal
from app.metrics import PREDICTIONS
from app.runtimes import Batch, Prediction
from app.runtimes.rows import to_batch
from app.runtimes.schema import Head, named
from app.serving.bodies import Read, reader_of
from app.serving.directions import ROUTING_KEY
from app.serving.plane import Serving
from app.serving.prompts import complete
from app.serving.schemas import Classified, ClassifyAnswer
from app.serving.shadow import Mirrored
from app.serving.target import Asked, Target, find

# Up to here, some thousand rows, a thread costs more than it spares; a larger body must not stall the small ones.
BYTES_ON_THE_LOOP = 2**20
# Threads of their own, and few: however many large bodies come, a version is loaded all the same.
LARGE = ThreadPoolExecutor(2, thread_name_prefix="large-batch")
# For versions that take milliseconds a row. Not the same threads: a large body must not wait for an encoder.
SLOW = ThreadPoolExecutor(2, thread_name_prefix="slow-model")

JSON = (b"content-type", b"application/json")


async def answer_prediction(scope: Scope, receive: Receive) -> Answer | None:
    """A lane: answers every POST /predict/batch whose body is to be read at all."""
    if refusal(scope, scope["app"].state.settings.max_body_bytes):
        return None
    await authenticate(scope, Role.PREDICTOR)
    return await predict(scope, receive)


async def predict(scope: Scope, receive: Receive) -> Answer:
    """Raises what the body's reader and `find` raise; Unavailable `stale` with strict serving and without a lease."""
    # Once: to ask a State for something costs as much as to count a request.
    serving: Serving = scope["app"].state.serving
    settings, replica = serving.settings, serving.replica
    read = reader_of(scope)
    body = await read_body(receive, settings.max_body_bytes)
    began = time.perf_counter()
    has_lease = replica.has_lease
    if settings.strict_serving and not has_lease:
        raise Unavailable("This replica has lost its lease.", code="stale", remedy="Ask another replica.")
    desk = Desk(serving, scope, read, body, began)
    if len(body) <= BYTES_ON_THE_LOOP:
        asked = desk.read()
        if asked.target.version.is_quick:
            done = desk.answer(asked)
        elif asked.conversations is not None:
            return await complete(serving, asked, began, receive)
        else:
            done = await asyncio.get_running_loop().run_in_executor(SLOW, desk.answer, asked)
    else:
        found = await asyncio.get_running_loop().run_in_executor(LARGE, desk.read_and_answer)
        if isinstance(found, Asked):
            return await complete(serving, found, began, receive)
        done = found
    if done.target.arm == "canary" or serving.directions.shadows:
        desk.tell(done)
    headers = [JSON, (b"x-request-id", done.request.encode())]
    return Answer(200, headers if has_lease else [*headers, (b"x-model-stale", b"true")], done.body)


def _served(error: Invalid) -> str:
    return ", ".join(error.details.get("models", ()))


async def classify(serving: Serving, model: str | None, row: dict[str, str | None]) -> ClassifyAnswer:
    """One row by the active version. Raises what `find` and `to_batch` raise."""
    began = time.perf_counter()
    try:
        target = find(serving.replica, 1, model, "active")
    except Invalid as error:
        # The body has no room for a name: its fields are the columns.
        raise Invalid(error.message, code=error.code, remedy=f"Send ?model= with one of: {_served(error)}.") from None
    if target.version.generator is not None:
        raise Invalid(
            f"{target.slots.model} answers with text; there is nothing to classify.",
            code="answers_with_text",
            remedy="Ask it at POST /v1/chat/completions, or POST /predict/batch.",
        )
    schema, batch = target.version.schema, to_batch([row], target.version.schema)
    predictions = await asyncio.get_running_loop().run_in_executor(SLOW, target.version.predictor.predict, batch)
    request = note(serving, target, batch, predictions, time.perf_counter() - began)
    heads = {
        head.name: Classified(
            label=prediction.labels(head)[0],
            score=float(prediction.scores[0]),
            probabilities=dict(zip(map(named, head.labels), prediction.probabilities[0].tolist(), strict=True)),
        )
        for head, prediction in zip(schema.heads, predictions, strict=True)
    }
    first = heads[schema.heads[0].name]
    return ClassifyAnswer(
        **first.model_dump(),
        model=target.slots.model,
        version=target.version.number,
        generation=target.slots.generation,
        heads=heads,
        request_id=request,
    )


class Done(NamedTuple):
    request: str
    body: bytes
    target: Target
    asked: Asked
    predictions: Sequence[Prediction]


class Desk:
    """One request: finds its target, by the caller's key where a canary runs; reads, answers, and counts both."""

    __slots__ = ("_began", "_body", "_key", "_read", "_serving", "_target")

    def __init__(self, serving: Serving, scope: Scope, read: Read, body: bytes, began: float) -> None:
        self._serving, self._read, self._body, self._began = serving, read, body, began
        self._key = header(scope, ROUTING_KEY) if serving.directions.canaries else ""
        self._target: Target | None = None

    def find(self, model: str | None, slot: str) -> Target:
        target = find(self._serving.replica, self._serving.settings.max_batch_rows, model, slot)
        if self._key and slot == "active":
            target = self._serving.directions.routed(target, self._key)
        if target.version.generator is not None:
            target = target.alone()
        self._target = target
        return target

    def read(self) -> Asked:
        """Raises what the body's reader and `find` raise."""
        try:
            return self._read(self._body, self.find)
        except RefitError as error:
            self._count(self._target, error)
            raise

    def read_and_answer(self) -> Done | Asked:
        """Asked, where the answer would hold this thread for long."""
        asked = self.read()
        return self.answer(asked) if asked.conversations is None else asked

    def answer(self, asked: Asked) -> Done:
        """Raises what the version raises, which is counted against it."""
        target = asked.target
        try:
            predictions = target.version.predictor.predict(asked.batch)
        except Exception as error:
            self._count(target, error)
            raise
        seconds = time.perf_counter() - self._began
        request = note(self._serving, target, asked.batch, predictions, seconds)
        return Done(request, _body(asked, predictions, request), target, asked, predictions)

    def tell(self, done: Done) -> None:
        """To the trial that runs."""
        directions = self._serving.directions
        if done.target.arm == "canary":
            directions.note_canary(done.target)
        elif trial := directions.shadow_of(done.target):
            mirrored = Mirrored(trial, done.request, done.asked, done.predictions, self._read, self._body)
            # Not before this answer is on its way.
            asyncio.get_running_loop().call_soon(self._serving.shadow.mirror, mirrored)

    def _count(self, target: Target | None, error: Exception) -> None:
        if target is not None and target.arm == "canary":
            self._serving.directions.note_canary(target)
        counting = self._serving.counting
        if target is None or counting is None:
            return
        ledger = counting.ledger_of(target.key, target.version)
        (ledger.refused if isinstance(error, RefitError) and error.status < 500 else ledger.failed)()


def note(serving: Serving, target: Target, batch: Batch, predictions: Sequence[Prediction], seconds: float) -> str:
    """Counts an answer, and gives its id."""
    counting, directions = serving.counting, serving.directions
    if counting is None:
        _counter(target.slots.model, target.version.number, target.slot).inc(len(batch))
        return os.urandom(16).hex()
    drawn = bool(directions.samples) and directions.is_drawn(target.slots.model)
    ledger = target.slots.ledgers.get(target.arm)
    if ledger is None or ledger.is_forgotten:
        ledger = target.slots.ledgers[target.arm] = counting.ledger_of(target.key, target.version)
    return ledger.note(batch, predictions, seconds, log=drawn)


def _body(asked: Asked, predictions: Sequence[Prediction], request_id: str) -> bytes:
    target = asked.target
    told = {
        "model": target.slots.model,
        "version": target.version.number,
        "generation": target.slots.generation,
        "slot": target.slot,
        "request_id": request_id,
    }
    heads = target.version.schema.heads
    told |= _told(heads[0], predictions[0], asked.probabilities)
    if len(heads) > 1:
        every = zip(heads, predictions, strict=True)
        told["heads"] = {head.name: _told(head, prediction, asked.probabilities) for head, prediction in every}
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def _told(head: Head, prediction: Prediction, probabilities: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"scores": np.ascontiguousarray(prediction.scores), "labels": prediction.labels(head)}
    if probabilities:
        columns = np.ascontiguousarray(prediction.probabilities.T)
        told["probabilities"] = {named(label): column for label, column in zip(head.labels, columns, strict=True)}
    return told


@lru_cache(maxsize=1024)
def _counter(model: str, version: int, slot: str) -> Counter:
    """Looking a counter up by its labels costs as much as half an inference."""
    return PREDICTIONS.labels(model, version, slot)
