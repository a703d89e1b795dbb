"""One prediction: body → rows → the version's answer → bytes. The hot path: it is measured, line by line."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import orjson
from prometheus_client import Counter
from starlette.types import Receive, Scope

from app.auth.requires import authenticate
from app.auth.roles import Role
from app.errors import Unavailable
from app.express import Answer
from app.http import read_body, refusal
from app.metrics import PREDICTIONS
from app.runtimes import Prediction
from app.serving.bodies import Read, reader_of
from app.serving.replica import Replica
from app.serving.target import Find, Target, find
from app.settings import Settings

# Up to here, some thousand rows, a thread costs more than it spares; a larger body must not stall the small ones.
BYTES_ON_THE_LOOP = 2**20
# Threads of their own, and few: however many large bodies come, a version is loaded all the same.
LARGE = ThreadPoolExecutor(2, thread_name_prefix="large-batch")

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
        told = _answer(read, body, target_of, request_id)
    else:
        loop = asyncio.get_running_loop()
        told = await loop.run_in_executor(LARGE, _answer, read, body, target_of, request_id)
    headers = [JSON, (b"x-request-id", request_id.encode())]
    return Answer(200, headers if has_lease else [*headers, (b"x-model-stale", b"true")], told)


def _answer(read: Read, body: bytes, target_of: Find, request_id: str) -> bytes:
    target, batch = read(body, target_of)
    prediction = target.version.predictor.predict(batch)
    _counter(target.slots.model, target.version.number, target.slot).inc(len(batch))
    return _encode(target, prediction, request_id)


def _encode(target: Target, prediction: Prediction, request_id: str) -> bytes:
    told = {
        "model": target.slots.model,
        "version": target.version.number,
        "generation": target.slots.generation,
        "slot": target.slot,
        "scores": np.ascontiguousarray(prediction.scores),
        "labels": prediction.labels(target.version.predictor.schema),
        "request_id": request_id,
    }
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


@lru_cache(maxsize=1024)
def _counter(model: str, version: int, slot: str) -> Counter:
    """Looking a counter up by its labels costs as much as half an inference."""
    return PREDICTIONS.labels(model, version, slot)
