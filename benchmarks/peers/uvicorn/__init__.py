"""What one writes by oneself, under uvicorn: in the project's own environment, so with the very versions Refit has."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start, post

# Access log off, as behind any load balancer that has its own.
UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--loop", "uvloop", "--http", "httptools", "--no-access-log")


@dataclass(frozen=True)
class Application:
    """An ASGI application in this folder; `path` is its route."""

    name: str
    module: str
    path: str = "/predict"
    environment: str | None = None
    most_processes: int | None = None

    def command(self, start: Start) -> Command:
        where: Sequence[str] = ("--port", str(start.port), "--workers", str(start.processes))
        quiet = ("--log-level", "warning")
        return Command([str(start.bin / "python"), *UVICORN, *where, *quiet, f"{__name__}.{self.module}:app"])

    def request(self, rows: Rows) -> Request:
        return post(self.path, {"instances": rows})

    def scores(self, answer: bytes) -> list[float]:
        scores: list[float] = json.loads(answer)["scores"]
        return scores


# No authentication, no validation, no framework: the least that Python can do with this body.
BARE = Application("bare uvicorn + orjson + ONNX Runtime", "bare")
ROUTED = Application("FastAPI route + orjson + ONNX Runtime", "routed")
# As FastAPI's own tutorial has it.
PLAIN = Application("FastAPI + pydantic + scikit-learn", "plain")
