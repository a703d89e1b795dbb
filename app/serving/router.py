from typing import Any

from fastapi import APIRouter, Request, Response

from app.auth.requires import Predictor
from app.serving import predictions
from app.serving.bodies import BINARY
from app.serving.schemas import PredictAnswer, PredictRequest

router = APIRouter(tags=["predictions"])

# The body is read by hand, so it is also described by hand.
JSON_BODY = {"application/json": {"schema": PredictRequest.model_json_schema()}}
BINARY_BODIES = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in BINARY}


def _with_binary(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": "with a binary body", "schema": {"type": "string"} | schema}


@router.post(
    "/predict/batch",
    response_model=PredictAnswer,
    openapi_extra={
        "requestBody": {"required": True, "content": JSON_BODY | BINARY_BODIES},
        "parameters": [_with_binary("model"), _with_binary("slot", enum=["active", "standby"], default="active")],
    },
)
async def predict_batch(request: Request, _: Predictor) -> Response:
    """Answers every row by one version, and names it. 422 names the first bad rows and columns."""
    status, headers, body = await predictions.predict(request.scope, request.receive)
    response = Response(body, status)
    response.raw_headers.extend(headers)
    return response
