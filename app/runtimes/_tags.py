"""Versions as models of an Ollama: whose they are, what they are made of, and that they are what they were made of."""

import hashlib
import os
import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from app.runtimes import _ollama
from app.runtimes import _openai_client as client
from app.runtimes._ollama import Ollama
from app.runtimes.chat import Card, Sampling
from app.settings import settings


class Endpoint(BaseModel):
    """Who answers. `url` is Ollama's root, null: REFIT_OLLAMA_URL; or OpenAI's base, with its /v1. `digest`: of a
    pulled model, what /api/tags says of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: Literal["ollama", "openai"]
    url: str | None = None
    model: str | None = None
    key: str | None = Field(None, pattern=r"^env:[A-Za-z_]\w*$")
    digest: str | None = None

    @property
    def root(self) -> str:
        if self.url is None and self.api == "openai":
            raise ValueError("endpoint.json names no url, which an OpenAI-compatible server needs")
        return (self.url or settings().ollama_url).rstrip("/")

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Raises ValueError where the environment has no such key."""
        if self.key is None:
            return ()
        name = self.key.removeprefix("env:")
        if name not in os.environ:
            raise ValueError(f"{name} is not set in this process's environment; endpoint.json takes the key from there")
        return (("Authorization", f"Bearer {os.environ[name]}"),)


class Described(NamedTuple):
    """What the files of an artifact say of it. `template` is its chat template in Go's language, for Ollama, where
    modelfile.json has one.
    """

    endpoint: Endpoint
    card: Card
    template: str | None


def read(folder: Path) -> Described:
    """Raises OSError for a missing file, ValueError for one that says something else."""
    modelfile = folder / "modelfile.json"
    return Described(
        Endpoint.model_validate_json((folder / "endpoint.json").read_bytes()),
        Card.model_validate_json((folder / "card.json").read_bytes()),
        orjson.loads(modelfile.read_bytes())["template"] if modelfile.exists() else None,
    )


def tag_of(version: Described, weights: str | None) -> str:
    """The name in Ollama of a version: its content's, so that equal artifacts are one. `weights` is the sha256 of
    model.gguf, None for a pulled model.
    """
    model = re.sub(r"[^a-z0-9_.-]+", "-", (version.endpoint.model or "version").lower()).strip("-.")[:60]
    content = version.endpoint.digest or hashlib.sha256(orjson.dumps([weights, _said_by(version)])).hexdigest()
    return f"{settings().ollama_namespace}/{model}:{content.removeprefix('sha256:')[:32]}"


def create(ollama: Ollama, version: Described, weights: Path) -> str:
    """The tag of a version, of the blob of its weights; made again where it is there, so that it is not old.

    Raises ValueError where Ollama would ask the model otherwise than it was trained.
    """
    now = weights.stat()
    sha256 = _sha256(weights.resolve(), now.st_size, now.st_mtime_ns)
    tag = tag_of(version, sha256)
    _ollama.push(ollama, weights, sha256)
    _ollama.create(ollama, tag, {"files": {"model.gguf": f"sha256:{sha256}"}} | _said_by(version))
    _check(version, _ollama.show(ollama, tag))
    return tag


def take(ollama: Ollama, version: Described) -> str:
    """A tag of ours on the model that was pulled: the next pull of its name moves that, and not this."""
    tag, endpoint = tag_of(version, None), version.endpoint
    known = _ollama.models(ollama)
    for name in (tag, endpoint.model):
        if name in known and known[name]["digest"] == endpoint.digest:
            _ollama.copy(ollama, name, tag)
            return tag
    raise ValueError(
        f"Ollama has {endpoint.model} no longer with the digest {str(endpoint.digest)[:12]} that this version pulled. "
        "Train the model again by strategy pull"
    )


def _check(version: Described, told: dict[str, Any]) -> None:
    card = version.card
    if (told.get("system") or None) != (card.system_prompt or None):
        raise ValueError("Ollama's system prompt of it is not that of card.json")
    asked, shown = _said_by(version)["parameters"], _ollama.parameters(told.get("parameters") or "")
    if other := sorted(name for name in asked.keys() | shown.keys() if asked.get(name) != shown.get(name)):
        raise ValueError(f"Ollama has other parameters of it than card.json: {', '.join(other)}")
    if told.get("template") not in (card.chat_template, version.template):
        raise ValueError(
            "Ollama renders its prompts by a template of its own, and not by card.json's; OLLAMA_GO_TEMPLATE=0 in "
            "Ollama's environment makes it use the model's"
        )


def tidy(url: str, keep: set[str], older_than: datetime, key: str | None = None) -> list[str]:
    """Unloads and deletes our tags that are not in `keep` and were last changed before `older_than`; names them. A
    candidate that is being judged stands in no slot, and is young. Raises Down.
    """
    endpoint = Endpoint(api="ollama", url=url, key=key)
    with client.client() as http:
        ollama = Ollama(http, endpoint.root, endpoint.headers)
        ours = f"{settings().ollama_namespace}/"
        gone = [
            name
            for name, model in _ollama.models(ollama).items()
            if name.startswith(ours) and name not in keep and _time(model["modified_at"]) < older_than
        ]
        for name in gone:
            _ollama.unload(ollama, name)
            _ollama.delete(ollama, name)
        return gone


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed_ns: int) -> str:  # noqa: ARG001 - of the file as it was then
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said_by(version: Described) -> dict[str, Any]:
    """What a tag is created with beside its weights: all that shapes an answer."""
    parameters = {"num_ctx": version.card.context, **_ollama.options(version.card, Sampling())}
    said = {"parameters": parameters, "system": version.card.system_prompt, "template": version.template}
    return {name: value for name, value in said.items() if value}


def _time(written: str) -> datetime:
    """Go's RFC 3339, whose seconds have nine places."""
    return datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", r".\1", written))
