"""Ollama's own API (github.com/ollama/ollama, docs/api.md), by blocking calls. Each raises Down, or ValueError with
Ollama's own words.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from app.runtimes import _openai_client as openai
from app.runtimes.chat import Card, Completion, Conversation, Down, Sampling, with_system

CHUNK = 1 << 20
# What Go's quotes write of a character that cannot be printed, or would end them.
ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True)
class Ollama:
    """One Ollama. `url` is its root, without a slash behind it."""

    http: httpx.Client
    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def ask(self, path: str, body: dict[str, Any], method: str = "POST") -> dict[str, Any]:
        request = self.http.build_request(method, f"{self.url}/api/{path}", json=body, headers=dict(self.headers))
        return openai.answer(self.http, request)

    def get(self, path: str) -> dict[str, Any]:
        return openai.get(self.http, f"{self.url}/api/{path}", self.headers)


def push(ollama: Ollama, path: Path, sha256: str) -> None:
    """The file as a blob, unless Ollama has it."""
    url = f"{ollama.url}/api/blobs/sha256:{sha256}"
    with openai.reached():
        if ollama.http.head(url, headers=dict(ollama.headers)).status_code == 200:
            return
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(CHUNK), b"")
            response = ollama.http.post(url, content=chunks, headers=dict(ollama.headers))
    openai.check(response)


def create(ollama: Ollama, tag: str, body: dict[str, Any]) -> None:
    """The model `tag`, over one of that name: its time of change is now."""
    ollama.ask("create", {"model": tag, "stream": False} | body)


def copy(ollama: Ollama, source: str, tag: str) -> None:
    ollama.ask("copy", {"source": source, "destination": tag})


def full_name(model: str) -> str:
    """As /api/tags says it: with its tag, and without the default registry."""
    bare = model.removeprefix("registry.ollama.ai/").removeprefix("library/")
    return bare if ":" in bare.rsplit("/", 1)[-1] else f"{bare}:latest"


def show(ollama: Ollama, model: str) -> dict[str, Any]:
    return ollama.ask("show", {"model": model})


def models(ollama: Ollama) -> dict[str, dict[str, Any]]:
    """By name: each has `digest` and `modified_at`."""
    return {model["name"]: model for model in ollama.get("tags")["models"]}


def loaded(ollama: Ollama) -> frozenset[str]:
    """The names of those in memory."""
    return frozenset(model["name"] for model in ollama.get("ps")["models"])


def warm(ollama: Ollama, tag: str) -> None:
    """Into memory, to stay there."""
    ollama.ask("generate", {"model": tag, "keep_alive": -1, "stream": False})


def unload(ollama: Ollama, tag: str) -> None:
    ollama.ask("generate", {"model": tag, "keep_alive": 0, "stream": False})


def delete(ollama: Ollama, tag: str) -> None:
    ollama.ask("delete", {"model": tag}, "DELETE")


def complete(ollama: Ollama, tag: str, card: Card, conversation: Conversation, sampling: Sampling) -> Completion:
    """As Generator.complete, by /api/chat: unlike /v1 it can be told to leave nothing out of a prompt that is too
    long. What is not said here stands in the tag.
    """
    messages = with_system(conversation, card.system_prompt)
    body = {"model": tag, "messages": messages, "stream": False, "truncate": False, "shift": False}
    told = ollama.ask("chat", body | {"options": options(card, sampling)})
    try:
        reason = "length" if told["done_reason"] == "length" else "stop"
        return Completion(
            told["message"]["content"], reason, told.get("prompt_eval_count", 0), told.get("eval_count", 0)
        )
    except (KeyError, TypeError) as error:
        raise Down("Ollama's answer is no chat's.") from error


def options(card: Card, sampling: Sampling) -> dict[str, Any]:
    """Ollama's words for how an answer is drawn. Only temperature and top_p shape it: its other defaults are off."""
    drawn = sampling.over(card.sampling)
    stop = list(dict.fromkeys([*(drawn.stop or ()), *card.stop]))
    said = {
        "temperature": 0.0 if drawn.temperature is None else drawn.temperature,
        "top_p": 1.0 if drawn.top_p is None else drawn.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "num_predict": drawn.max_tokens,
        "seed": drawn.seed,
        "stop": stop or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def parameters(shown: str) -> dict[str, Any]:
    """What /api/show says of parameters, a line a value, each as Go's %#v has it (Ollama's server/routes.go):
    {name: number, truth or text}; stop has a list.
    """
    read: dict[str, Any] = {}
    for line in shown.split("\n"):
        name, _, value = line.partition(" ")
        if name == "stop":
            read.setdefault(name, []).append(_value(value.strip()))
        elif name:
            read[name] = _value(value.strip())
    return read


async def pull(url: str, headers: dict[str, str], model: str, hear: Callable[[dict[str, Any]], None]) -> None:
    """Waits for /api/pull, telling its news, {status, digest?, total?, completed?}. Cancelled, it lets go of Ollama,
    which keeps what it has and goes on from there the next time.
    """
    with openai.reached():
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5.0), trust_env=False, headers=headers) as http,
            http.stream("POST", f"{url}/api/pull", json={"model": model, "stream": True}) as response,
        ):
            if response.is_error:
                await response.aread()
            openai.check(response)
            async for line in response.aiter_lines():
                hear(_news(line))


def _news(line: str) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(line)
    if "error" in told:
        raise ValueError(str(told["error"]))
    return told


def _value(written: str) -> Any:
    """A text stands in quotes; numbers and truths are written as in JSON; whatever else there is stays as it is."""
    if len(written) > 1 and written[0] == written[-1] == '"':
        return ESCAPED.sub(_unescaped, written[1:-1])
    try:
        return orjson.loads(written)
    except ValueError:
        return written


def _unescaped(found: re.Match[str]) -> str:
    *codes, char = found.groups()
    code = next(filter(None, codes), None)
    return chr(int(code, 16)) if code else CONTROLS.get(char, char)
