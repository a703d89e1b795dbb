"""The graph as BentoML's user writes a service for it."""

import os

import bentoml

from benchmarks.peers import graph

NO_LOG = {"access": {"enabled": False}}


@bentoml.service(workers=int(os.environ.get("BENTO_WORKERS", "1")), logging=NO_LOG)
class Graph:
    def __init__(self) -> None:
        self.score = graph.load()

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML is not installed where this is checked
    async def predict(self, instances: list[list[float]]) -> list[float]:
        scores: list[float] = self.score(instances).tolist()
        return scores
