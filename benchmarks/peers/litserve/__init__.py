"""LitServe: a LitAPI with the graph, in worker processes behind its own FastAPI server."""

import json
from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start, post


@dataclass(frozen=True)
class LitServe:
    name: str = "LitServe"
    environment: str = "litserve"
    most_processes: int | None = None

    def command(self, start: Start) -> Command:
        return Command([str(start.bin / "python"), "-m", f"{__name__}.server", str(start.port), str(start.processes)])

    def request(self, rows: Rows) -> Request:
        return post("/predict", {"instances": rows})

    def scores(self, answer: bytes) -> list[float]:
        scores: list[float] = json.loads(answer)["scores"]
        return scores
