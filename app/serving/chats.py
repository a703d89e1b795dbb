"""`/v1/chat/completions`: one conversation, answered whole or as a stream, by the version that was found for it."""

import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import Invalid, RefitError
from app.http import header
from app.openai_errors import error_of
from app.runtimes.chat import Conversation, fault
from app.serving.blocks import Promised
from app.serving.chat_schemas import ChatRequest
from app.serving.directions import ROUTING_KEY
from app.serving.plane import Serving
from app.serving.texts import Turn, found
from app.serving.upstream import Json, Reply, not_openais

log = logging.getLogger(__name__)

# nginx's word for a caller that is gone; nobody reads it but the metrics.
GONE = 499
# What an answer, or a part of it, is told with; what else a server says is its own affair.
OF_A_DELTA = ("role", "content", "reasoning_content")
OF_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details")


async def answer(serving: Serving, asked: ChatRequest, request: Request) -> Response:
    """Raises what `found`, `Turn.of` and `Upstreams.open` raise; Invalid `invalid_messages`."""
    began, until = time.perf_counter(), time.monotonic() + serving.settings.answer_seconds
    headers = {} if serving.expect_lease() else {"X-Model-Stale": "true"}
    conversation = asked.conversation
    if wrong := fault(conversation):
        raise Invalid(f"{wrong[0].upper()}{wrong[1:]}.", code="invalid_messages")
    turn = Turn.of(serving, found(serving, asked.model, header(request.scope, ROUTING_KEY)), began)
    headers |= turn.headers
    try:
        if asked.stream:
            more = asked.beside | {"stream": True, "stream_options": {"include_usage": True}}
            opening = turn.open(conversation, asked.sampling, more)
            reply = await serving.attendance.attend(request.receive, opening, until)
            return Events(turn, reply, conversation, headers, until, with_usage=_wants_usage(asked))
        writing = turn.whole(conversation, asked.sampling, asked.beside)
        told, completion = await serving.attendance.attend(request.receive, writing, until)
    except ClientDisconnect:
        return Response(status_code=GONE)
    except RefitError as error:
        turn.failed(error)
        raise
    id = turn.answered([conversation], [completion.text])
    return Response(
        orjson.dumps(_completion(turn, id, told)), media_type="application/json", headers=headers | {"X-Request-Id": id}
    )


class Events(Response):
    """Server-sent events as OpenAI writes them. The version's own are read one by one and told in Refit's name, each
    as it comes; what goes wrong on the way is told by a last event, for an end without one looks like the end."""

    def __init__(
        self,
        turn: Turn,
        reply: Reply,
        asked: Conversation,
        headers: Mapping[str, str],
        until: float,
        *,
        with_usage: bool,
    ) -> None:
        self._turn, self._reply, self._asked, self._until = turn, reply, asked, until
        self._with_usage = with_usage
        self._promised = Promised.made()
        self._texts: list[str] = []
        of_stream = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Request-Id": self._promised.request}
        super().__init__(headers={**headers, **of_stream}, media_type="text/event-stream")
        # It is as long as the answer will be.
        del self.headers["Content-Length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        attendance, completion = self._turn.serving.attendance, None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await attendance.attend(receive, self._write(send), self._until)
            completion = "".join(self._texts)
        except RefitError as error:
            self._turn.failed(error)
            await _send(send, {"error": error_of(error.problem())})
            await send({"type": "http.response.body", "body": b""})
            return
        except ClientDisconnect:
            log.debug("a caller left before its answer was whole")
        finally:
            await self._reply.close()
        self._turn.streamed(self._promised, self._asked, completion)

    async def _write(self, send: Send) -> None:
        async with aclosing(self._reply.events()) as events:
            async for event in events:
                try:
                    told = self._chunk(event)
                except (KeyError, TypeError, AttributeError):
                    raise not_openais() from None
                if told is not None:
                    await _send(send, told)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    def _chunk(self, event: Json) -> Json | None:
        """None: the figures of an answer, which the caller did not ask for."""
        choices = [self._choice(choice) for choice in event.get("choices", ())]
        usage = event.get("usage")
        if not choices and (usage is None or not self._with_usage):
            return None
        told = _head(self._turn, self._promised.request, "chat.completion.chunk", event) | {"choices": choices}
        if self._with_usage:
            told["usage"] = _usage(usage) if usage and not choices else None
        return told

    def _choice(self, choice: Json) -> Json:
        delta = {name: choice["delta"][name] for name in OF_A_DELTA if name in choice["delta"]}
        if "role" in delta and delta.get("content") is None:
            delta["content"] = ""
        self._texts.append(str(delta.get("content") or ""))
        return {
            "index": 0,
            "delta": delta,
            "logprobs": choice.get("logprobs"),
            "finish_reason": choice.get("finish_reason"),
        }


async def _send(send: Send, event: Json) -> None:
    await send({"type": "http.response.body", "body": b"data: %s\n\n" % orjson.dumps(event), "more_body": True})


def _completion(turn: Turn, id: str, told: Json) -> Json:
    choice = told["choices"][0]
    message = {"role": "assistant", "content": choice["message"].get("content") or "", "refusal": None}
    if thought := choice["message"].get("reasoning_content"):
        message["reasoning_content"] = thought
    choices = [
        {
            "index": 0,
            "message": message,
            "logprobs": choice.get("logprobs"),
            "finish_reason": choice.get("finish_reason"),
        }
    ]
    return _head(turn, id, "chat.completion", told) | {"choices": choices, "usage": _usage(told["usage"])}


def _head(turn: Turn, id: str, object: str, told: Json) -> dict[str, Any]:
    return {
        "id": id,
        "object": object,
        "created": told.get("created") or int(time.time()),
        "model": turn.key.model,
        "system_fingerprint": f"v{turn.key.version}-g{turn.key.generation}",
    }


def _usage(told: Json) -> Json:
    return {name: told[name] for name in OF_USAGE if name in told}


def _wants_usage(asked: ChatRequest) -> bool:
    return bool(asked.stream_options and asked.stream_options.include_usage)
