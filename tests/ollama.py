"""A fake of Ollama: its published HTTP API (github.com/ollama/ollama, docs/api.md and api/types.go of August 2026),
over a real llama.cpp, so that its answers are a model's. It is stricter than Ollama: a field that is not in the API,
and an option that is none, are refused. What it leaves out: embeddings, quantizing, adapters, images, tools, push; a
template in Go's language is kept and shown, prompts are rendered by the weights' own.

`python -m tests.ollama PORT` runs it as a process; `running()` beside a test.
"""

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from app.runtimes._openai_client import client
from app.runtimes._supervised import LlamaServer

VERSION = "0.24.0"
OPTIONS = frozenset({
    "num_keep", "seed", "num_predict", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "temperature",
    "repeat_penalty", "presence_penalty", "frequency_penalty", "stop", "num_ctx", "num_batch", "num_gpu", "main_gpu",
    "use_mmap", "num_thread", "draft_num_predict",
})  # fmt: skip


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Named(Body):
    model: str


class Show(Named):
    verbose: bool = False


class Copy(Body):
    source: str
    destination: str


class Pull(Named):
    insecure: bool = False
    stream: bool = True


class Create(Named):
    stream: bool = True
    from_: str | None = Field(None, alias="from")
    files: dict[str, str] | None = None
    template: str = ""
    system: str = ""
    parameters: dict[str, Any] = {}
    license: Any = None


class Generate(Named):
    prompt: str = ""
    stream: bool = True
    keep_alive: float | str | None = None
    options: dict[str, Any] = {}


class Chat(Named):
    messages: list[dict[str, str]] = []
    stream: bool = True
    keep_alive: float | str | None = None
    options: dict[str, Any] = {}
    truncate: bool = True
    shift: bool = True


class Completions(Named):
    messages: list[dict[str, str]]
    stream: bool = False
    stream_options: dict[str, bool] | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


class Fault(Exception):
    """An answer of {"error": …} with a status."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


@dataclass
class Model:
    """A manifest: what a name stands for."""

    weights: str  # digest of the blob
    system: str
    template: str  # Go's, where one was given
    parameters: dict[str, Any]
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def digest(self) -> str:
        said = [self.weights, self.system, self.template, self.parameters]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class Fake:
    """What it has on disk, in memory, and what its registry could be asked to pull."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[str, Model] = {}
        self.registry: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.runners: dict[str, LlamaServer] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []  # path and body, in order
        self.go_template: str | None = None  # what it puts in place of every model's own, as older ones do
        self.pull_seconds = 0.0
        self.lock = threading.Lock()

    def blob(self, digest: str) -> Path:
        if not (digest.startswith("sha256:") and len(digest) == 71):
            raise Fault(400, "invalid digest format")
        return self.folder / digest.replace(":", "-")

    def model(self, name: str) -> Model:
        found = self.models.get(full(name))
        if found is None:
            raise Fault(404, f"model '{name}' not found")
        return found

    def runner(self, name: str, keep_alive: float | str | None = None) -> LlamaServer:
        """In memory from now on, whatever keep_alive says, unless it is 0."""
        model = self.model(name)
        with self.lock:
            if (running := self.runners.get(full(name))) is None:
                running = LlamaServer(
                    {
                        "model": str(self.blob(model.weights)),
                        "alias": "runner",
                        "context": int(model.parameters.get("num_ctx", 4096)),
                        "at_once": 2,
                        "threads": 1,
                    },
                    client(),
                )
                self.runners[full(name)] = running
        running.first.result(60)
        return running

    def expire(self, name: str) -> None:
        if running := self.runners.pop(full(name), None):
            running.stop()

    def ask(self, name: str, what: str, body: dict[str, Any]) -> httpx.Response:
        running = self.runner(name)
        headers = {"Authorization": f"Bearer {running.key}"}
        return running.http.post(f"{running.address}/{what}", json=body, headers=headers)

    def messages(self, name: str, given: list[dict[str, str]]) -> list[dict[str, str]]:
        """With the model's own system prompt, where the caller sent none."""
        system = self.model(name).system
        return given if not system or given[0]["role"] == "system" else [{"role": "system", "content": system}, *given]


def full(name: str) -> str:
    """As Ollama displays it: library/ is left out, :latest is not."""
    parts = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    named = parts if ":" in parts.rsplit("/", 1)[-1] else f"{parts}:latest"
    for part in named.replace(":", "/").split("/"):
        if not (0 < len(part) <= 80) or not all(c.isalnum() or c in "_-." for c in part) or part[0] in "-.":
            raise Fault(400, "invalid model name")
    return named


def details(fake: Fake, model: Model) -> dict[str, Any]:
    read = gguf.GGUFReader(fake.blob(model.weights))
    family = read.fields["general.architecture"].contents()
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": f"{sum(int(t.n_elements) for t in read.tensors) / 1e3:.2f}K",
        "quantization_level": gguf.LlamaFileType(read.fields["general.file_type"].contents()).name.split("_", 1)[1],
    }


def shown(fake: Fake, model: Model) -> dict[str, Any]:
    read = gguf.GGUFReader(fake.blob(model.weights))
    template = read.fields["tokenizer.chat_template"].contents()
    info = {
        name: value.contents()
        for name, value in read.fields.items()
        if not name.startswith(("tokenizer.ggml", "GGUF.", "tokenizer.chat_template", "general.name"))
    }
    lines = [
        f"{name:<30} {written(one)}"
        for name, value in model.parameters.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    count = sum(int(tensor.n_elements) for tensor in read.tensors)
    return {
        "modelfile": '# Modelfile generated by "ollama show"\n',
        "parameters": "\n".join(lines),
        "template": model.template or fake.go_template or template,
        **({"system": model.system} if model.system else {}),
        "details": details(fake, model),
        "model_info": info | {"general.parameter_count": count},
        "capabilities": ["completion"],
        "modified_at": go_time(model.modified),
    }


def written(value: Any) -> str:
    """By Go's %#v, of what it has read from JSON: numbers are float64."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value:g}"


def go_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def make_app(fake: Fake) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(Fault)
    def on_fault(request: Request, fault: Exception) -> Response:
        assert isinstance(fault, Fault)
        return JSONResponse({"error": fault.error}, fault.status)

    @app.exception_handler(RequestValidationError)
    def on_bad_body(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": f"not in the API: {error}"}, 400)

    _management(app, fake)
    _inference(app, fake)
    return app


def _management(app: FastAPI, fake: Fake) -> None:
    @app.get("/api/version")
    def version() -> dict[str, str]:
        return {"version": VERSION}

    @app.head("/api/blobs/{digest}")
    def has_blob(digest: str) -> Response:
        return Response(status_code=200 if fake.blob(digest).exists() else 404)

    @app.post("/api/blobs/{digest}")
    async def push_blob(digest: str, request: Request) -> Response:
        path = fake.blob(digest)
        content = await request.body()
        if (got := f"sha256:{hashlib.sha256(content).hexdigest()}") != digest:
            raise Fault(400, f'digest mismatch, expected "{digest}", got "{got}"')
        path.write_bytes(content)
        return Response(status_code=201)

    @app.post("/api/create")
    def create(body: Create) -> Response:
        fake.asked.append(("create", body.model_dump(by_alias=True)))
        if unknown := body.parameters.keys() - OPTIONS:
            raise Fault(400, f"unknown parameter '{min(unknown)}'")
        if not body.files:
            raise Fault(400, "neither 'from' or 'files' was specified")
        (digest,) = body.files.values()
        if not fake.blob(digest).exists():
            raise Fault(500, f"blob {digest} not found")
        if fake.blob(digest).read_bytes()[:4] != b"GGUF":
            raise Fault(400, "supplied file was not in GGUF format")
        fake.models[full(body.model)] = Model(digest, body.system, body.template, body.parameters)
        return told(body.stream, [{"status": "parsing GGUF"}, {"status": "writing manifest"}, {"status": "success"}])

    @app.post("/api/copy")
    def copy(body: Copy) -> Response:
        model = fake.model(body.source)
        fake.models[full(body.destination)] = Model(model.weights, model.system, model.template, model.parameters)
        return Response()

    @app.delete("/api/delete")
    def delete(body: Named) -> Response:
        fake.model(body.model)
        del fake.models[full(body.model)]
        return Response()


def _inference(app: FastAPI, fake: Fake) -> None:
    @app.get("/api/tags")
    def tags() -> dict[str, Any]:
        return {"models": [listed(fake, name, model) for name, model in fake.models.items()]}

    @app.get("/api/ps")
    def ps() -> dict[str, Any]:
        return {"models": [listed(fake, name, fake.model(name)) for name in fake.runners]}

    @app.post("/api/show")
    def show(body: Show) -> dict[str, Any]:
        return shown(fake, fake.model(body.model))

    @app.post("/api/pull")
    def pull(body: Pull) -> Response:
        return told(body.stream, pulled(fake, body.model))

    @app.post("/api/generate")
    def generate(body: Generate) -> dict[str, Any]:
        fake.asked.append(("generate", body.model_dump(by_alias=True)))
        fake.model(body.model)
        if body.prompt:
            raise Fault(400, "this fake only loads and unloads by /api/generate")
        if body.keep_alive == 0:
            fake.expire(body.model)
            return {"model": body.model, "response": "", "done": True, "done_reason": "unload"}
        fake.runner(body.model)
        return {"model": body.model, "response": "", "done": True, "done_reason": "load"}

    @app.post("/api/chat")
    def chat(body: Chat) -> dict[str, Any]:
        fake.asked.append(("chat", body.model_dump(by_alias=True)))
        return chatted(fake, body)

    @app.get("/v1/models")
    def v1_models() -> dict[str, Any]:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "library"} for name in fake.models]
        return {"object": "list", "data": data}

    @app.post("/v1/chat/completions")
    def v1_chat(body: Completions) -> Response:
        asked = body.model_dump(exclude_none=True)
        asked = fake.model(body.model).parameters | asked
        asked.pop("num_ctx", None)
        asked["messages"] = fake.messages(body.model, body.messages)
        if "num_predict" in asked:
            asked.setdefault("max_tokens", asked.pop("num_predict"))
        return passed_on(fake, body.model, asked)


def told(stream: bool, news: Any) -> Response:
    if stream:
        return StreamingResponse((json.dumps(one) + "\n" for one in news), media_type="application/x-ndjson")
    last = list(news)[-1]
    return JSONResponse(last, 500 if "error" in last else 200)


def listed(fake: Fake, name: str, model: Model) -> dict[str, Any]:
    size = fake.blob(model.weights).stat().st_size
    return {
        "name": name,
        "model": name,
        "modified_at": go_time(model.modified),
        "size": size,
        "digest": model.digest,
        "details": details(fake, model),
    }


def pulled(fake: Fake, name: str) -> Iterator[dict[str, Any]]:
    """As the registry sends it: in two parts."""
    yield {"status": "pulling manifest"}
    if full(name) not in fake.registry:
        yield {"error": "pull model manifest: file does not exist"}
        return
    content, said = fake.registry[full(name)]
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    for part in (0, 1):
        time.sleep(fake.pull_seconds / 2)
        done = len(content) // 2 * (part + 1)
        yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": len(content), "completed": done}
    fake.blob(digest).write_bytes(content)
    for status in ("verifying sha256 digest", "writing manifest"):
        yield {"status": status}
    fake.models[full(name)] = Model(digest, said.get("system", ""), "", said.get("parameters", {}))
    yield {"status": "success"}


def chatted(fake: Fake, body: Chat) -> dict[str, Any]:
    if unknown := body.options.keys() - OPTIONS:
        raise Fault(400, f"unknown option {min(unknown)}")
    if body.stream:
        raise Fault(400, "this fake streams by /v1/chat/completions")
    messages = fake.messages(body.model, body.messages)
    options = fake.model(body.model).parameters | body.options
    options["max_tokens"] = options.pop("num_predict", None)
    options.pop("num_ctx", None)
    drawn = {name: value for name, value in options.items() if value is not None}
    response = fake.ask(body.model, "v1/chat/completions", {"messages": messages} | drawn)
    if response.status_code == 400 and "exceeds" in response.text:
        raise Fault(400, "the input length exceeds the context length")
    choice, usage = response.json()["choices"][0], response.json()["usage"]
    return {
        "model": body.model,
        "created_at": go_time(datetime.now(UTC)),
        "message": choice["message"],
        "done": True,
        "done_reason": choice["finish_reason"],
        "prompt_eval_count": usage["prompt_tokens"],
        "eval_count": usage["completion_tokens"],
    }


def passed_on(fake: Fake, name: str, asked: dict[str, Any]) -> Response:
    running = fake.runner(name)
    headers = {"Authorization": f"Bearer {running.key}"}
    if not asked.get("stream"):
        response = fake.ask(name, "v1/chat/completions", asked)
        return JSONResponse(response.json() | {"model": name}, response.status_code)

    def chunks() -> Iterator[bytes]:
        url = f"{running.address}/v1/chat/completions"
        with running.http.stream("POST", url, json=asked, headers=headers) as response:
            yield from response.iter_bytes()

    return StreamingResponse(chunks(), media_type="text/event-stream")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Fake, str]]:
    """The fake and its URL, in a thread of this process."""
    fake = Fake(folder)
    server = uvicorn.Server(uvicorn.Config(make_app(fake), port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield fake, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        for name in list(fake.runners):
            fake.expire(name)
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        uvicorn.run(make_app(Fake(Path(made))), port=int(sys.argv[1]))
