"""OpenAI's protocol: any client of it talks to the active version of a language model by the model's name."""

from fastapi import APIRouter, Request, Response

from app.auth.requires import Predictor, PredictorOrViewer
from app.errors import NotFound
from app.serving import chats
from app.serving.chat_schemas import ChatCompletion, ChatRequest, ModelCard, ModelList
from app.serving.replica import Replica
from app.serving.router import ROUTING_KEY
from app.serving.target import slots_of

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
    return ModelList(data=_cards(request.app.state.serving.replica))


@router.get("/models/{model}")
async def show_model(model: str, request: Request, _: PredictorOrViewer) -> ModelCard:
    """One of them, by its name."""
    replica: Replica = request.app.state.serving.replica
    if model in replica.unloaded:
        slots_of(replica, model)
    cards = {card.id: card for card in _cards(replica)}
    if model not in cards:
        raise NotFound(
            "No language model of this name has an active version.",
            code="model_not_found",
            remedy=f"Served are: {', '.join(cards) or 'none'}.",
        )
    return cards[model]


def _cards(replica: Replica) -> list[ModelCard]:
    active = [(name, slots.active) for name, slots in sorted(replica.slots.items())]
    return [
        ModelCard(id=name, created=int(version.trained_at))
        for name, version in active
        if version is not None and version.generator is not None
    ]
