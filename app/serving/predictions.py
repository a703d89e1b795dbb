"""One prediction: body → rows → the version's answer → bytes. The hot path: it is measured, line by line."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import orjson
from prometheus_client import Counter
from starlette.types import Receive, Scope

from app.auth.requires import authenticate
from app.auth.roles import Role
from app.errors import Invalid, Unavailable
from app.express import Answer
from app.http import read_body, refusal
from app.metrics import PREDICTIONS
from app.runtimes import Prediction
from app.runtimes.rows import to_batch
from app.runtimes.schema import Head, named
from app.serving.bodies import Read, reader_of
from app.serving.replica import Replica
from app.serving.schemas import Classified, ClassifyAnswer
from app.serving.target import Asked, Find, find
from app.settings import Settings

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
    state = scope["app"].state
    settings: Settings = state.settings
    replica: Replica = state.replica
    read = reader_of(scope)
    body = await read_body(receive, settings.max_body_bytes)
    has_lease = replica.has_lease
    if settings.strict_serving and not has_lease:
        raise Unavailable("This replica has lost its lease.", code="stale", remedy="Ask another replica.")
    target_of = partial(find, replica, settings.max_batch_rows)
    request_id = os.urandom(16).hex()
    if len(body) <= BYTES_ON_THE_LOOP:
        asked = read(body, target_of)
        if asked.target.version.predictor.is_quick:
            told = _answer(asked, request_id)
        else:
            told = await asyncio.get_running_loop().run_in_executor(SLOW, _answer, asked, request_id)
    else:
        told = await asyncio.get_running_loop().run_in_executor(
            LARGE, _read_and_answer, read, body, target_of, request_id
        )
    headers = [JSON, (b"x-request-id", request_id.encode())]
    return Answer(200, headers if has_lease else [*headers, (b"x-model-stale", b"true")], told)


def _served(error: Invalid) -> str:
    return ", ".join(error.details.get("models", ()))


async def classify(replica: Replica, model: str | None, row: dict[str, str | None]) -> ClassifyAnswer:
    """One row by the active version. Raises what `find` and `to_batch` raise."""
    try:
        target = find(replica, 1, model, "active")
    except Invalid as error:
        # The body has no room for a name: its fields are the columns.
        raise Invalid(error.message, code=error.code, remedy=f"Send ?model= with one of: {_served(error)}.") from None
    schema, batch = target.version.predictor.schema, to_batch([row], target.version.predictor.schema)
    predictions = await asyncio.get_running_loop().run_in_executor(SLOW, target.version.predictor.predict, batch)
    _counter(target.slots.model, target.version.number, target.slot).inc()
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
        request_id=os.urandom(16).hex(),
    )


def _read_and_answer(read: Read, body: bytes, target_of: Find, request_id: str) -> bytes:
    return _answer(read(body, target_of), request_id)


def _answer(asked: Asked, request_id: str) -> bytes:
    target = asked.target
    predictions = target.version.predictor.predict(asked.batch)
    _counter(target.slots.model, target.version.number, target.slot).inc(len(asked.batch))
    told = {
        "model": target.slots.model,
        "version": target.version.number,
        "generation": target.slots.generation,
        "slot": target.slot,
        "request_id": request_id,
    }
    heads = target.version.predictor.schema.heads
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
