from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from app.auth.requires import Predictor
from app.schemas import ModelName
from app.serving import predictions
from app.serving.bodies import BINARY
from app.serving.schemas import ClassifyAnswer, CompletionsAnswer, PredictAnswer, PredictRequest

router = APIRouter(tags=["predictions"])

# The body is read by hand, so it is also described by hand.
JSON_BODY = {"application/json": {"schema": PredictRequest.model_json_schema()}}
BINARY_BODIES = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in BINARY}

ROUTING_KEY = {
    "name": "X-Routing-Key",
    "in": "header",
    "description": "names the caller: while a canary runs, standby answers a share of them, always the same ones",
    "schema": {"type": "string"},
}


def _with_binary(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": "with a binary body", "schema": {"type": "string"} | schema}


@router.post(
    "/predict/batch",
    response_model=PredictAnswer | CompletionsAnswer,
    openapi_extra={
        "requestBody": {"required": True, "content": JSON_BODY | BINARY_BODIES},
        "parameters": [
            _with_binary("model"),
            _with_binary("slot", enum=["active", "standby"], default="active"),
            _with_binary("probabilities", enum=["false", "true"], default="false"),
            ROUTING_KEY,
        ],
    },
)
async def predict_batch(request: Request, _: Predictor) -> Response:
    """Answers every row by one version, and names it. 422 names the first bad rows and columns."""
    status, headers, body = await predictions.predict(request.scope, request.receive)
    response = Response(body, status)
    response.raw_headers.extend(headers)
    return response


@router.post("/classify")
async def classify(
    body: Annotated[dict[str, str | None], Body(examples=[{"title": "Hessen kürzt Kita-Mittel", "content": "…"}])],
    request: Request,
    _: Predictor,
    model: Annotated[ModelName | None, Query()] = None,
) -> ClassifyAnswer:
    """One text, by its columns: its label with the probability of each. 422 names the columns that the model reads."""
    return await predictions.classify(request.app.state.serving, model, body)
