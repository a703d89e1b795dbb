"""A language model that is asked over HTTP: any OpenAI-compatible endpoint, or Ollama's own. Answers are objects that
fit a JSON Schema, or they are asked for again.
"""

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Any, Self

import httpx
import jsonschema
import orjson

from app.data.language_model import EndpointOptions
from app.errors import RefitError

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
# What a server says that will say something else later.
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class EndpointDown(RefitError):
    """The endpoint could not be reached, or refused, as often as `attempts` allows. What was answered is kept."""

    status, code = 502, "endpoint_unreachable"


class NoAnswer(Exception):
    """The model was asked as often as `attempts` allows and never answered what fits; the message says what it did."""


class Endpoint:
    """An open connection, as an async context. `asked` counts requests."""

    def __init__(self, options: EndpointOptions) -> None:
        """Raises EndpointDown where the environment lacks the key."""
        self.asked = 0
        self._options = options
        self._client = httpx.AsyncClient(headers=_headers(options), timeout=options.timeout_seconds)
        self._free = asyncio.Semaphore(options.concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, system: str, user: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The model's answer, which fits `schema`. Raises EndpointDown, or NoAnswer where every answer was unfit."""
        check = jsonschema.Draft202012Validator(schema)
        async with self._free:
            told: Exception | None = None
            for attempt in range(self._options.attempts):
                if attempt:
                    await asyncio.sleep(_wait(attempt, told))
                try:
                    # A model that answered nonsense once answers it again to the same seed.
                    async with asyncio.timeout(self._options.timeout_seconds):
                        answer = await self._fetch(system, user, schema, self._options.seed + attempt)
                    return _fitting(answer, check)
                except (httpx.HTTPStatusError, httpx.RequestError, TimeoutError, NoAnswer) as error:
                    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in PASSING:
                        raise self._down(error, attempt + 1) from error
                    told = error
            assert told is not None
            if isinstance(told, NoAnswer):
                raise told
            raise self._down(told, self._options.attempts) from told

    async def _fetch(self, system: str, user: str, schema: Mapping[str, Any], seed: int) -> str:
        self.asked += 1
        options = self._options
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if options.api == "ollama":
            sampled = {"temperature": options.temperature, "seed": seed, "num_predict": options.max_tokens}
            body = {"model": options.model, "messages": messages, "stream": False, "format": schema, "options": sampled}
            response = await self._client.post(f"{options.url}/api/chat", json=body)
        else:
            named = {"name": "answer", "schema": schema, "strict": True}
            body = {
                "model": options.model,
                "messages": messages,
                "temperature": options.temperature,
                "seed": seed,
                "max_tokens": options.max_tokens,
                "response_format": {"type": "json_schema", "json_schema": named},
            }
            response = await self._client.post(f"{options.url}/chat/completions", json=body)
        response.raise_for_status()
        return _content(response.content, options.api)

    def _down(self, error: Exception, attempts: int) -> EndpointDown:
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
        said = f"HTTP {status}" if status else type(error).__name__
        return EndpointDown(
            f"The language model {self._options.model} at {self._options.url} did not answer: {said}, "
            f"attempt {attempts} of {self._options.attempts}.",
            remedy="Where it is down, start it and resume the job: what was answered is kept. Where url, model or key "
            "are wrong, mend the definition and trigger again: a resumed job keeps the old one.",
        )


def _headers(options: EndpointOptions) -> dict[str, str]:
    if options.key is None:
        return {}
    name = options.key.removeprefix("env:")
    if not os.environ.get(name):
        remedy = f"Set {name} in the environment of every worker."
        raise EndpointDown(f"The environment variable {name} is not set.", remedy=remedy)
    return {"authorization": f"Bearer {os.environ[name]}"}


def _content(body: bytes, api: str) -> str:
    """The text that the model wrote. Raises NoAnswer where the server's answer has none."""
    try:
        told = orjson.loads(body)
        message = told["message"] if api == "ollama" else told["choices"][0]["message"]
        content = message["content"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        raise NoAnswer("the server's answer has no message in it") from None
    if not isinstance(content, str):
        raise NoAnswer("the message has no text")
    return content


def _fitting(content: str, check: jsonschema.Draft202012Validator) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise NoAnswer("it is not JSON") from None
    error = next(check.iter_errors(answer), None)
    if error is not None:
        raise NoAnswer(f"it does not fit the schema ({error.validator} at {error.json_path})")
    assert isinstance(answer, dict)
    return answer


def _wait(attempt: int, error: Exception | None) -> float:
    """Doubling, with half of it by chance, so that many callers do not come back together; as told, where told."""
    longest: float = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
    if isinstance(error, NoAnswer):
        return 0.0
    if isinstance(error, httpx.HTTPStatusError):
        told = error.response.headers.get("retry-after", "")
        if told.isdigit():
            return min(LONGEST_WAIT_SECONDS, float(told))
    return longest / 2 + random.random() * longest / 2
