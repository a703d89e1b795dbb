"""OpenAI's protocol: any client of it talks to the active version of a language model by the model's name."""

from fastapi import APIRouter, Request, Response

from app.auth.requires import Predictor, PredictorOrViewer
from app.serving import chats
from app.serving.chat_schemas import ChatCompletion, ChatRequest, ModelCard, ModelList
from app.serving.router import ROUTING_KEY

router = APIRouter(prefix="/v1", tags=["language models"])

EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={200: {"content": EVENTS}},
    openapi_extra={"parameters": [ROUTING_KEY]},
)
async def complete_chat(body: ChatRequest, request: Request, _: Predictor) -> Response:
    """Answers a conversation by one version, whole or as a stream; a stream ends on the version that it began with."""
    return await chats.answer(request.app.state.serving, body, request)


@router.get("/models")
async def list_models(request: Request, _: PredictorOrViewer) -> ModelList:
    """The models that answer with text and have an active version."""
    active = [(name, slots.active) for name, slots in sorted(request.app.state.serving.replica.slots.items())]
    return ModelList(
        data=[
            ModelCard(id=name, created=int(version.trained_at))
            for name, version in active
            if version is not None and version.generator is not None
        ]
    )
