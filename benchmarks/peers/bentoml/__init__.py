"""BentoML: a service class with the graph."""

import json
from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start, post


@dataclass(frozen=True)
class BentoML:
    name: str = "BentoML"
    environment: str = "bentoml"
    most_processes: int | None = None

    def command(self, start: Start) -> Command:
        where = ["--host", "127.0.0.1", "--port", str(start.port)]
        settings = {"BENTO_WORKERS": str(start.processes), "BENTOML_HOME": str(start.scratch)}
        return Command([str(start.bin / "bentoml"), "serve", *where, f"{__name__}.server:Graph"], settings)

    def request(self, rows: Rows) -> Request:
        return post("/predict", {"instances": rows})

    def scores(self, answer: bytes) -> list[float]:
        scores: list[float] = json.loads(answer)
        return scores
