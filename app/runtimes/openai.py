"""Artifacts of format `openai`: somebody else's server answers, Ollama or any that speaks OpenAI's protocol.

endpoint.json  Endpoint: which server, which model
model.gguf     for Ollama: what is created there, under a tag that its content names
card.json      Card: of a created model what it was trained with, of another what its server says
modelfile.json {template, …}: its chat template in Go's language, for an Ollama that does not take the weights' own
runtime.json   {context, at_once}; schema.json, smoke.json

What is pinned: of a model created in Ollama everything, by content: weights, system prompt, stop texts, sampling, and
the chat template. Ollama renders prompts by the weights' own (Jinja2), or by modelfile.json's (Go), which says the
same; one that would use a template of its own is refused. Of a model pulled by Ollama its digest. Of a model that a
server merely has, its name, and nothing more.
"""

import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson

from app.runtimes import _ollama, _tags, _vllm
from app.runtimes import _openai_client as client
from app.runtimes._ollama import Ollama
from app.runtimes._tags import Described, Endpoint
from app.runtimes.chat import Card, Completion, Conversation, Down, Likelihood, Sampling, Unsupported, Upstream
from app.runtimes.llama_cpp import Runtime
from app.runtimes.schema import InputSchema


class Remote:
    """A version that another server answers for."""

    is_quick = False

    def __init__(
        self, endpoint: Endpoint, upstream: Upstream, http: httpx.Client, card: Card, folder: Path, unloads: bool
    ) -> None:
        self.card, self.upstream = card, upstream
        self.schema = InputSchema.model_validate_json((folder / "schema.json").read_bytes())
        self.at_once = Runtime.model_validate_json((folder / "runtime.json").read_bytes()).at_once
        self._smoke: list[Any] = orjson.loads((folder / "smoke.json").read_bytes())["rows"]
        self._http = http
        self._ollama = Ollama(http, endpoint.root, upstream.headers) if endpoint.api == "ollama" else None
        ended = self._ollama if unloads else None
        self._end = weakref.finalize(self, _end_in_a_thread, http, ended, upstream.model)
        # A process that ends, a replica that is restarted among several, is no reason to unload what others serve.
        self._end.atexit = False

    def complete(self, conversation: Conversation, sampling: Sampling) -> Completion:
        if self._ollama:
            return _ollama.complete(self._ollama, self.upstream.model, self.card, conversation, sampling)
        return client.complete(self._http, self.upstream, self.card, conversation, sampling)

    def likelihood(self, conversation: Conversation, answer: str) -> Likelihood:
        if self._ollama:
            raise Unsupported("Ollama tells no likelihood of a given answer.")
        return _vllm.likelihood(self._http, self.upstream, self.card, conversation, answer)

    def prompt_tokens(self, conversation: Conversation) -> list[int]:  # noqa: ARG002 - the contract's
        raise Unsupported("OpenAI's protocol tells no token ids of a prompt.")

    def smoke_inputs(self) -> list[Any]:
        return self._smoke

    def close(self) -> None:
        self._end()


def load(folder: Path) -> Remote:
    """The generator of the artifact in `folder`; of Ollama, created there and warm.

    Raises OSError for a missing file, Down where the server does not answer, and ValueError where it has no such model
    or its model is not what the card says.
    """
    version = _tags.read(folder)
    http = client.client()
    try:
        return (_of_ollama if version.endpoint.api == "ollama" else _of_server)(version, http, folder)
    except BaseException:
        http.close()
        raise


def _of_ollama(version: Described, http: httpx.Client, folder: Path) -> Remote:
    endpoint, weights = version.endpoint, folder / "model.gguf"
    ollama = Ollama(http, endpoint.root, endpoint.headers)
    tag = _tags.create(ollama, version, weights) if weights.exists() else _tags.take(ollama, version)
    was_loaded = tag in _ollama.loaded(ollama)
    _ollama.warm(ollama, tag)
    upstream = Upstream(f"{endpoint.root}/v1", tag, endpoint.headers)
    return Remote(endpoint, upstream, http, version.card, folder, unloads=not was_loaded)


def _of_server(version: Described, http: httpx.Client, folder: Path) -> Remote:
    endpoint = version.endpoint
    if endpoint.model is None:
        raise ValueError("endpoint.json names no model, which an OpenAI-compatible server needs")
    told = client.get(http, f"{endpoint.root}/models", endpoint.headers)
    known = [model["id"] for model in told["data"]]
    if endpoint.model not in known:
        raise ValueError(f"{endpoint.root} has no model {endpoint.model!r}; it has {', '.join(known) or 'none'}")
    upstream = Upstream(endpoint.root, endpoint.model, endpoint.headers)
    return Remote(endpoint, upstream, http, version.card, folder, unloads=False)


def _end_in_a_thread(http: httpx.Client, ollama: Ollama | None, tag: str) -> None:
    threading.Thread(target=_unload, args=(http, ollama, tag), daemon=True).start()


def _unload(http: httpx.Client, ollama: Ollama | None, tag: str) -> None:
    # An Ollama that is away has nothing in memory.
    with suppress(Down, ValueError):
        if ollama:
            _ollama.unload(ollama, tag)
    http.close()
