"""Asking a server in OpenAI's protocol, by blocking calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from app.runtimes.chat import Card, Completion, Conversation, Down, Sampling, Upstream, chat_body

# An answer of thousands of tokens on a busy CPU takes minutes; a server that says nothing for longer hangs.
TIMEOUT = httpx.Timeout(600.0, connect=5.0)


def client() -> httpx.Client:
    """Of its own for each version: many threads ask at once, and no proxy of the environment stands between."""
    return httpx.Client(timeout=TIMEOUT, trust_env=False, limits=httpx.Limits(max_connections=256))


def post(http: httpx.Client, url: str, headers: tuple[tuple[str, str], ...], body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a POST of JSON. Raises Down, or ValueError where the server says that the request is wrong."""
    return answer(http, http.build_request("POST", url, json=body, headers=dict(headers)))


def get(http: httpx.Client, url: str, headers: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """The answer to a GET. Raises Down, or ValueError where the server says that the request is wrong."""
    return answer(http, http.build_request("GET", url, headers=dict(headers)))


def complete(
    http: httpx.Client, upstream: Upstream, card: Card, conversation: Conversation, sampling: Sampling
) -> Completion:
    """As Generator.complete, by POST /chat/completions."""
    body = chat_body(upstream, card, conversation, sampling)
    told = post(http, f"{upstream.url}/chat/completions", upstream.headers, body)
    try:
        choice, usage = told["choices"][0], told["usage"]
        return Completion(
            choice["message"]["content"] or "",
            "length" if choice["finish_reason"] == "length" else "stop",
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
    except (KeyError, IndexError, TypeError) as error:
        raise Down("The server's answer is not OpenAI's chat completion.") from error


def answer(http: httpx.Client, request: httpx.Request) -> dict[str, Any]:
    """The JSON of an answer; {} where it has none. Raises Down, or ValueError where the request is wrong."""
    with reached():
        response = http.send(request)
    check(response)
    try:
        told: dict[str, Any] = response.json() if response.content else {}
    except ValueError as error:
        raise Down("The server's answer is not JSON.") from error
    return told


@contextmanager
def reached() -> Iterator[None]:
    """Makes Down of what httpx raises where nobody answers."""
    try:
        yield
    except httpx.TransportError as error:
        raise Down(f"The server does not answer ({type(error).__name__}).") from error
    except RuntimeError as error:  # httpx's word for a client that was closed meanwhile
        raise Down("The server was ended.") from error


def check(response: httpx.Response) -> None:
    """Raises ValueError for 400, which says that the request is wrong, and Down for other errors."""
    if response.status_code == 400:
        raise ValueError(_said(response))
    if response.is_error:
        raise Down(f"The server answers {response.status_code}: {_said(response)}")


def _said(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:500]
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
