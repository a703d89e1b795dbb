"""The servers behind versions that answer with text, asked in OpenAI's protocol on behalf of callers."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import httpx
import orjson

from app.errors import Invalid, RefitError, Unavailable
from app.runtimes import Generator
from app.runtimes.chat import Conversation, Down, Sampling, chat_body

log = logging.getLogger(__name__)

Json = dict[str, Any]

# So many answers are waited for at once, of all models together; who comes then waits so many seconds for a place.
MOST_AT_ONCE, PLACE_SECONDS = 512, 10.0
CONNECT_SECONDS = 5.0
# What servers call a prompt that does not fit: llama.cpp, and vLLM and OpenAI.
TOO_LONG = ("exceed_context_size_error", "context_length_exceeded")


class Busy(Unavailable):
    code, retry_after = "overloaded", 1


class ModelDown(Unavailable):
    code, retry_after = "model_down", 2


class Upstreams:
    """Connections to them. Each is made for one answer: an idle one keeps a thread of llama.cpp's server for seconds,
    and a server that closes it just then would cost a request."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=0)
        # How long an answer may take is for the caller to bound, as a whole.
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS, pool=PLACE_SECONDS)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, follow_redirects=False)

    async def open(self, generator: Generator, conversation: Conversation, sampling: Sampling, more: Json) -> "Reply":
        """The reply once it begins; the caller closes it. `more` are fields of the body besides.

        Raises ModelDown, Busy, or Invalid: `prompt_too_long` with `prompt_tokens` and `context`, `refused_by_model`.
        """
        try:
            upstream = generator.upstream
            body = orjson.dumps(chat_body(upstream, generator.card, conversation, sampling) | more)
            headers = [*upstream.headers, ("content-type", "application/json"), ("accept-encoding", "identity")]
            request = self._http.build_request(
                "POST", f"{upstream.url}/chat/completions", content=body, headers=headers
            )
            response = await self._http.send(request, stream=True)
        except httpx.PoolTimeout:
            raise Busy("Too many answers are being written.", remedy="Ask again in a moment.") from None
        except (httpx.TransportError, Down) as error:
            raise _down(str(error) or type(error).__name__) from None
        reply = Reply(response)
        if response.status_code != 200:
            try:
                raise _refusal(response.status_code, await reply.error(), generator.card.context)
            finally:
                await reply.close()
        return reply

    async def close(self) -> None:
        await self._http.aclose()


class Reply:
    """What a server answers: read `whole`, or by its `events`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def whole(self) -> Json:
        """Raises ModelDown where it is cut off."""
        try:
            told: Json = orjson.loads(await self._response.aread())
        except (httpx.RequestError, orjson.JSONDecodeError) as error:
            raise _down(f"its answer was cut off: {type(error).__name__}") from None
        return told

    async def events(self) -> AsyncGenerator[Json]:
        """Each as it comes, until `[DONE]`. Raises ModelDown where the server says so, or ends before."""
        try:
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    told = line.removeprefix(b"data:").strip()
                    if told == b"[DONE]":
                        return
                    if line.startswith(b"data:"):
                        yield _event(told)
        except httpx.TransportError as error:
            raise _down(f"its answer was cut off: {type(error).__name__}") from None
        raise _down("its answer ended before it was whole")

    async def error(self) -> Json:
        """What an answer that is none says of itself."""
        try:
            told = orjson.loads(await self._response.aread())
            found = told["error"] if isinstance(told["error"], dict) else {"message": told["error"]}
        except (httpx.RequestError, orjson.JSONDecodeError, KeyError, TypeError):
            return {}
        return {name: value for name, value in found.items() if value is not None}

    async def close(self) -> None:
        """The server stops writing, where it still does."""
        await self._response.aclose()

    async def _lines(self) -> AsyncGenerator[bytes]:
        """By newlines alone: what Unicode holds for the end of a line may stand in an answer."""
        rest = b""
        # httpx says less of it than it is: what is not closed here is closed whenever it is collected.
        raw = cast("AsyncGenerator[bytes]", self._response.aiter_raw())
        async with aclosing(raw) as parts:
            async for part in parts:
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    yield line
        yield rest


def _event(told: bytes) -> Json:
    try:
        event = orjson.loads(told)
    except orjson.JSONDecodeError:
        raise not_openais() from None
    if not isinstance(event, dict):
        raise not_openais()
    if event.get("error"):
        log.warning("a language model failed in the middle of an answer: %s", event["error"])
        raise _down("it failed in the middle of its answer")
    return event


def not_openais() -> ModelDown:
    """Of an answer that reads otherwise than OpenAI's API says."""
    return _down("its answer is not OpenAI's")


def _down(why: str) -> ModelDown:
    log.warning("a language model does not answer: %s", why)
    return ModelDown("The version's server does not answer now.", remedy="Ask again in a moment; the log says why.")


def _refusal(status: int, error: Json, context: int) -> RefitError:
    """What a server's own words are, only the log learns: they may hold the caller's."""
    kind = {str(error.get("type")), str(error.get("code"))}
    if kind.intersection(TOO_LONG):
        context = error.get("n_ctx", context)
        tokens = error.get("n_prompt_tokens")
        told = f"has {tokens} tokens" if tokens is not None else "is too long"
        return Invalid(
            f"The prompt {told}; the version reads at most {context} with its answer.",
            code="prompt_too_long",
            remedy="Send fewer or shorter messages.",
            prompt_tokens=tokens,
            context=context,
        )
    if status in (429, 503):
        return Busy("The version's server has no place now.", remedy="Ask again in a moment.")
    if 400 <= status < 500 and status not in (401, 403, 404):
        log.info("a language model refused a request: %s %s", status, error)
        return Invalid(
            "The version's server refuses this request.",
            code="refused_by_model",
            remedy="A JSON schema in response_format that it cannot follow is the usual cause.",
        )
    return _down(f"{status} {error}")
