"""One prediction: body → rows → the version's answer → bytes. The hot path: it is measured, line by line."""

import asyncio
import uuid
from functools import lru_cache, partial

import numpy as np
import orjson
from prometheus_client import Counter
from starlette.types import Receive, Scope, Send

from app.auth.requires import authenticate
from app.auth.roles import Role
from app.errors import Unavailable
from app.http import Headers, answer, read_body
from app.metrics import PREDICTIONS
from app.runtimes import Prediction
from app.serving.bodies import Read, reader_of
from app.serving.replica import Replica
from app.serving.target import Find, Target, find
from app.settings import Settings

# Up to here the answer comes faster than a thread would take it; a larger body must not stall the small ones.
BYTES_ON_THE_LOOP = 256 * 2**10


async def answer_prediction(scope: Scope, receive: Receive, send: Send) -> bool:
    """A lane: answers every POST /predict/batch."""
    await authenticate(scope, Role.PREDICTOR)
    headers, body = await predict(scope, receive)
    await answer(send, 200, headers, body)
    return True


async def predict(scope: Scope, receive: Receive) -> tuple[Headers, bytes]:
    """Headers and body of the answer. Raises what the body's reader and `find` raise, and Unavailable `stale`."""
    settings: Settings = scope["app"].state.settings
    replica: Replica = scope["app"].state.replica
    read = reader_of(scope)
    body = await read_body(receive)
    if settings.strict_serving and not replica.has_lease:
        raise Unavailable("This replica has lost its lease.", code="stale", remedy="Ask another replica.")
    target_of = partial(find, replica, settings.max_batch_rows)
    request_id = str(uuid.uuid4())
    if len(body) <= BYTES_ON_THE_LOOP:
        told = _answer(read, body, target_of, request_id)
    else:
        told = await asyncio.to_thread(_answer, read, body, target_of, request_id)
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
    return headers if replica.has_lease else [*headers, (b"x-model-stale", b"true")], told


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
