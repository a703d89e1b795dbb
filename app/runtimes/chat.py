"""What a language model is asked and answers, and the card that travels in its artifact as `card.json`.

Conversations are OpenAI's: messages of a role and a text. What a version was trained with (chat template, system
prompt, stop tokens) is pinned in its card, so that it is asked in serving as it was in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    role: Role
    content: str


Conversation = Sequence[Message]


class Sampling(BaseModel):
    """How an answer is drawn; null: as the version's card says. Greedy where the temperature is 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=131_072)
    seed: int | None = Field(None, ge=0, lt=2**31)
    stop: tuple[str, ...] | None = Field(None, max_length=16)

    def over(self, card: "Sampling") -> "Sampling":
        """What is said here, and where nothing is said, what `card` says."""
        return card.model_copy(update={k: v for k, v in self.model_dump().items() if v is not None})


GREEDY = Sampling(temperature=0.0, seed=0)


class Card(BaseModel):
    """What a version was trained with and must be asked with.

    `stop` are the texts that end an answer, `markers` those that the template puts around what is said. `base` names
    what it was tuned from, `weights` is the sha256 of that. `context` counts tokens of prompt and answer together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    weights: str
    architecture: str
    parameters: int
    quantization: str = Field(description="q8_0, bf16, …; what a pulled model says of itself")
    context: int
    chat_template: str = Field(description="Jinja2, as transformers and llama.cpp read it")
    system_prompt: str | None
    stop: tuple[str, ...]
    markers: tuple[str, ...] = ()
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256, seed=0)


@dataclass(frozen=True)
class Completion:
    """One answer, without stop tokens. `finish_reason` is `length` where it was cut at max_tokens, else `stop`."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Likelihood:
    """How likely a version held a given answer: `nats` is -ln p summed over its `tokens`."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class Upstream:
    """Where one version answers in OpenAI's protocol: POST `{url}/chat/completions` with this `model` and `headers`."""

    url: str
    model: str
    headers: tuple[tuple[str, str], ...] = ()


class Down(Exception):
    """The server behind a version does not answer now; the message says what it does."""


class Unsupported(Exception):
    """The server behind a version cannot do that at all, such as tell likelihoods."""


def with_system(conversation: Conversation, system: str | None) -> list[Message]:
    """The conversation as the version reads it: with its own system prompt where the caller sent none."""
    if system is None or any(message["role"] == "system" for message in conversation):
        return list(conversation)
    return [{"role": "system", "content": system}, *conversation]


def chat_body(upstream: Upstream, card: Card, conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
    """What a version is asked: its system prompt, its stop texts beside the caller's, and its way of sampling."""
    drawn = sampling.over(card.sampling).model_dump(exclude_none=True)
    # What the chat template puts around an answer ends it by itself; a text that llama.cpp does not know as a token
    # that ends, does not.
    stop = list(dict.fromkeys([*(drawn.get("stop") or ()), *card.stop]))
    messages = with_system(conversation, card.system_prompt)
    return {"model": upstream.model, "messages": messages} | drawn | ({"stop": stop} if stop else {})


def forged(conversation: Conversation, card: Card) -> tuple[int, str] | None:
    """Where what is said would read as more than what is said, and the marker that would end it: a caller who writes
    one could speak for the system or for the model."""
    for place, message in enumerate(conversation):
        for marker in card.markers:
            if marker in message["content"]:
                return place, marker
    return None


def written(conversation: Conversation) -> str:
    """As it is kept in snapshots and batches: JSON, the same text for the same conversation."""
    return orjson.dumps([{"role": m["role"], "content": m["content"]} for m in conversation]).decode()


def read(text: str) -> list[Message]:
    """What `written` wrote."""
    messages: list[Message] = orjson.loads(text)
    return messages


def fault(conversation: Any) -> str | None:
    """Why this is no conversation that can be answered, as a sentence without the caller's words; None: it is one."""
    if not isinstance(conversation, list) or not conversation:
        return "messages must be a list of at least one {role, content}"
    for place, message in enumerate(conversation):
        if found := _message_fault(message, place):
            return found
    if conversation[-1]["role"] == "assistant":
        return "the last message must be the user's: it is what is answered"
    return None


def _message_fault(message: Any, place: int) -> str | None:
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        return f"message {place} must have role and content, and nothing else"
    if message["role"] not in ("system", "user", "assistant"):
        return f"the role of message {place} must be system, user or assistant"
    if not isinstance(message["content"], str) or "\x00" in message["content"]:
        return f"the content of message {place} must be text without NUL"
    if message["role"] == "system" and place:
        return "a system message comes first"
    return None
