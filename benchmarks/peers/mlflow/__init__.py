"""MLflow's scoring server on a model of its ONNX flavour."""

import json
from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start, post


@dataclass(frozen=True)
class MLflow:
    name: str = "MLflow scoring server"
    environment: str = "mlflow"
    most_processes: int | None = None

    def command(self, start: Start) -> Command:
        saved = str(start.scratch / "model")
        save = [str(start.bin / "python"), "-m", f"{__name__}.save", str(start.model), saved]
        where = ["--host", "127.0.0.1", "--port", str(start.port), "--workers", str(start.processes)]
        serve = [str(start.bin / "mlflow"), "models", "serve", "--model-uri", saved, "--env-manager", "local", *where]
        return Command(serve, before=save)

    def request(self, rows: Rows) -> Request:
        return post("/invocations", {"inputs": {"numeric": rows}})

    def scores(self, answer: bytes) -> list[float]:
        probabilities = json.loads(answer)["predictions"]["probabilities"]
        return [positive for _, positive in probabilities]
