"""What `/v1/chat/completions` and `/v1/models` take and answer: OpenAI's shapes, as far as versions here can follow."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from app.runtimes.chat import Message, Sampling
from app.schemas import FreeJson, Strict

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Penalty = Annotated[float, Field(ge=-2, le=2)]
MOST_STOPS, LONGEST_STOP = 16, 200
Stop = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_STOP, pattern=r"^[^\x00]+$")]


def _refuse(value: Any) -> None:
    if value is not None:
        raise ValueError("is not supported here; leave it out")


def _refuse_any(value: Any) -> None:
    _refuse(value or None if isinstance(value, list) else value)


# What OpenAI knows and versions here do not. Clients send null for what they do not use, or a list of none.
Unsupported = Annotated[None, BeforeValidator(_refuse)]
UnsupportedList = Annotated[None, BeforeValidator(_refuse_any)]


class TextPart(Strict):
    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """`developer` is what newer clients call `system`. Content of several parts is joined as it stands."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: Unsupported = None
    refusal: Unsupported = None
    tool_calls: Unsupported = None
    function_call: Unsupported = None
    audio: Unsupported = None
    annotations: Unsupported = None
    reasoning_content: Text | None = Field(None, description="of an earlier answer; it is not read again")

    @property
    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class JsonSchema(Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: FreeJson = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = Field(None, validate_default=True)

    @field_validator("json_schema")
    @classmethod
    def is_there_where_it_is_meant(cls, value: JsonSchema | None, told: ValidationInfo) -> JsonSchema | None:
        if value is None and told.data.get("type") == "json_schema":
            raise ValueError("is missing: type json_schema needs {name, schema}")
        return value


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatRequest(Strict):
    """OpenAI's, for one answer in text. What is left out is as the version's card says.

    `model` is Refit's name of it; it may be left out where there is only one. `max_tokens` is the older name of
    `max_completion_tokens`. `user` is taken and not kept.
    """

    model: Annotated[str, StringConstraints(max_length=200)] | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=131_072)
    max_completion_tokens: int | None = Field(None, ge=1, le=131_072)
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    seed: int | None = Field(None, ge=0, lt=2**31)
    n: Literal[1] | None = None
    response_format: ResponseFormat | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    user: str | None = None
    tools: UnsupportedList = None
    tool_choice: Unsupported = None
    parallel_tool_calls: Unsupported = None
    functions: UnsupportedList = None
    function_call: Unsupported = None
    logit_bias: Unsupported = None
    modalities: Unsupported = None
    audio: Unsupported = None
    prediction: Unsupported = None
    reasoning_effort: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None
    service_tier: Unsupported = None
    store: Unsupported = None
    metadata: Unsupported = None

    @field_validator("top_logprobs")
    @classmethod
    def goes_with_logprobs(cls, value: int | None, told: ValidationInfo) -> int | None:
        if value is not None and not told.data.get("logprobs"):
            raise ValueError("goes with logprobs: true; add that, or leave top_logprobs out")
        return value

    @property
    def conversation(self) -> list[Message]:
        return [message.message for message in self.messages]

    @property
    def sampling(self) -> Sampling:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            seed=self.seed,
            stop=None if stop is None else tuple(stop),
        )

    @property
    def beside(self) -> dict[str, Any]:
        """What is handed on to the version's server as it came."""
        names = {"response_format", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs"}
        return self.model_dump(include=names, exclude_none=True, by_alias=True)


class _Answer(BaseModel):
    """As the API's document shows it; the body is written by hand, so that nothing that a server says is lost."""

    model_config = ConfigDict(extra="allow")


class Usage(_Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(_Answer):
    role: Literal["assistant"]
    content: str


class Choice(_Answer):
    index: Literal[0]
    message: AnswerMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """`id` is the request's, to send with feedback. `system_fingerprint` names version and generation: `v7-g3`.

    With `stream` the same comes as server-sent events of `chat.completion.chunk`, ended by `[DONE]`.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class ModelCard(BaseModel):
    """`created` is when its active version was trained, in seconds since 1970."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["refit"] = "refit"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
