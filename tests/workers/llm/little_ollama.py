"""The part of Ollama's API that frees a GPU, as its documentation has it, because no Ollama can be had here.

GET /api/ps, and POST /api/generate without a prompt: loads, or unloads with keep_alive 0. Strict: what else is asked
is refused, and an unloaded model goes a little later, as there.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class LittleOllama:
    """`loaded` by name; `on_change` is told how many are."""

    url: str
    known: dict[str, dict[str, Any]]
    loaded: set[str]
    asked: list[dict[str, Any]] = field(default_factory=list)
    goes_after: int = 2  # looks
    on_change: Callable[[int], None] = lambda _: None
    _leaving: dict[str, int] = field(default_factory=dict)

    def ps(self) -> dict[str, Any]:
        for name in list(self._leaving):
            self._leaving[name] -= 1
            if self._leaving[name] < 0:
                del self._leaving[name]
                self.loaded.discard(name)
                self.on_change(len(self.loaded))
        return {"models": [{"name": name, "model": name, **self.known[name]} for name in sorted(self.loaded)]}

    def generate(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(body)
        if set(body) != {"model", "keep_alive"} or not isinstance(body["keep_alive"], int):
            return 400, {"error": "unexpected request"}
        name = body["model"]
        if name not in self.known:
            return 404, {"error": f"model '{name}' not found"}
        if body["keep_alive"] == 0:
            self._leaving[name] = self.goes_after
            return 200, {"model": name, "response": "", "done": True, "done_reason": "unload"}
        self.loaded.add(name)
        self.on_change(len(self.loaded))
        return 200, {"model": name, "response": "", "done": True, "done_reason": "load"}


@contextmanager
def little_ollama(*models: str, expires_at: str = "2318-07-01T10:00:00.123456789Z") -> Iterator[LittleOllama]:
    """All of them loaded on the GPU, and `on-the-cpu` beside it."""
    known: dict[str, dict[str, Any]] = {
        name: {"size": 1, "size_vram": 1, "expires_at": expires_at, "details": {}} for name in models
    }
    known["on-the-cpu"] = {"size": 1, "size_vram": 0, "expires_at": expires_at, "details": {}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*((200, ollama.ps()) if self.path == "/api/ps" else (404, {})))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(*(ollama.generate(body) if self.path == "/api/generate" else (404, {})))

        def _send(self, status: int, told: dict[str, Any]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ollama = LittleOllama(f"http://127.0.0.1:{server.server_address[1]}", known, set(known))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield ollama
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
