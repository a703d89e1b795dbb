"""A language model to ask that behaves as badly as is wanted. A real one is in benchmarks/texts/llama.py."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Reply:
    content: str = '{"y": "a"}'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cut: bool = False  # the connection ends in the middle of the answer


@dataclass
class Scripted:
    """`script(n, body)` says how the n-th request, from 0, is answered."""

    url: str
    script: Callable[[int, Body], Reply]
    asked: list[Body] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def texts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.asked]


def _is_asked_rightly(path: str, body: Body) -> bool:
    """As Ollama's and OpenAI's own documentation have it; Ollama itself cannot be had here."""
    told = [set(message) == {"role", "content"} for message in body["messages"]]
    if path == "/api/chat":
        known = {"model", "messages", "stream", "format", "options"}
        options = {"temperature", "seed", "num_predict"}
        return all(told) and set(body) == known and body["stream"] is False and set(body["options"]) == options
    known = {"model", "messages", "temperature", "seed", "max_tokens", "response_format"}
    wanted = body.get("response_format", {})
    fits = wanted.get("type") == "json_schema" and set(wanted.get("json_schema", ())) == {"name", "schema", "strict"}
    return path == "/chat/completions" and all(told) and set(body) == known and fits


@contextmanager
def scripted(script: Callable[[int, Body], Reply]) -> Iterator[Scripted]:
    lock, now = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                number = len(model.asked)
                model.asked.append(body)
                model.keys.append(self.headers["authorization"])
                now[0] += 1
                model.most_at_once = max(model.most_at_once, now[0])
            reply = model.script(number, body) if _is_asked_rightly(self.path, body) else Reply(status=400)
            time.sleep(reply.seconds)
            with lock:
                now[0] -= 1
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            message = {"message": {"role": "assistant", "content": reply.content}}
            whole = message if self.path == "/api/chat" else {"choices": [message]}
            content = json.dumps(whole).encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.cut else content)
            if reply.cut:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that has gone away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    model = Scripted(f"http://127.0.0.1:{server.server_address[1]}", script)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
