import asyncio
import uuid

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from app.auth.requires import Predictor
from app.errors import Invalid, NotFound, Refused, TooLarge, Unavailable
from app.metrics import PREDICTIONS
from app.runtimes import Prediction
from app.runtimes.rows import to_batch
from app.serving.loaded import Loaded
from app.serving.replica import Replica, Slots
from app.serving.schemas import PredictAnswer, PredictRequest, decode

router = APIRouter(tags=["predictions"])

# Up to here the answer comes faster than a thread would take it; a larger batch must not stall the small ones.
ROWS_ON_THE_LOOP = 200


@router.post(
    "/predict/batch",
    response_model=PredictAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": PredictRequest.model_json_schema()}},
        }
    },
)
async def predict_batch(request: Request, _: Predictor) -> Response:
    """Answers every row by one version, and names it. 422 names the first bad rows and columns."""
    body = decode(await request.body())
    settings = request.app.state.settings
    if len(body.instances) > settings.max_batch_rows:
        raise TooLarge(
            f"{len(body.instances)} rows are too many; at most {settings.max_batch_rows} fit in one request.",
            code="too_many_rows",
            remedy="Send them in several requests.",
        )
    replica: Replica = request.app.state.replica
    slots = slots_of(replica, body.model)
    if settings.strict_serving and not replica.has_lease:
        raise Unavailable("This replica has lost its lease.", code="stale", remedy="Ask another replica.")
    version = version_in(slots, body.slot)
    prediction = await _answer(version, body)
    request_id = str(uuid.uuid4())
    PREDICTIONS.labels(slots.model, version.number, body.slot).inc(len(body.instances))
    answer = {
        "model": slots.model,
        "version": version.number,
        "generation": slots.generation,
        "slot": body.slot,
        "scores": np.ascontiguousarray(prediction.scores),
        "labels": prediction.labels(version.predictor.schema),
        "request_id": request_id,
    }
    headers = {"X-Request-ID": request_id} | ({} if replica.has_lease else {"X-Model-Stale": "true"})
    return Response(
        orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY),
        media_type="application/json",
        headers=headers,
    )


def slots_of(replica: Replica, model: str | None) -> Slots:
    """The slots that answer for `model`, or for the only model there is. Raises NotFound, Invalid or Unavailable."""
    known = sorted(replica.slots.keys() | replica.unloaded.keys())
    named = known[0] if model is None and len(known) == 1 else model
    if named in replica.slots:
        return replica.slots[named]
    if model is None and len(known) > 1:
        raise Invalid(
            "Several models could be meant; name one.",
            code="model_ambiguous",
            remedy=f'Send "model" with one of: {", ".join(known)}.',
            models=known,
        )
    if named in replica.unloaded:
        raise Unavailable("This replica is still loading.", code="loading", models=replica.unloaded)
    raise NotFound(
        "No model is defined." if model is None else "No such model is served here.",
        code="model_not_found",
        remedy=f"Served are: {', '.join(known) or 'none'}.",
    )


def version_in(slots: Slots, slot: str) -> Loaded:
    """The version in that slot. Raises Refused `no_active_version` or `no_standby_version`."""
    version = slots.active if slot == "active" else slots.standby
    if version is None:
        raise Refused(
            f"Model {slots.model} has no {slot} version that is loaded.",
            code=f"no_{slot}_version",
            remedy=f"Train and reload it: refit trigger {slots.model} --wait && refit reload {slots.model}.",
        )
    return version


async def _answer(version: Loaded, body: PredictRequest) -> Prediction:
    if len(body.instances) <= ROWS_ON_THE_LOOP:
        return version.predictor.predict(to_batch(body.instances, version.predictor.schema))
    return await asyncio.to_thread(
        lambda: version.predictor.predict(to_batch(body.instances, version.predictor.schema))
    )
