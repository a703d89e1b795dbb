"""python -m benchmarks.peers.litserve.server PORT PROCESSES"""

import sys
from typing import Any

import litserve

from benchmarks.peers import graph


class Graph(litserve.LitAPI):  # type: ignore[misc]  # LitServe is not installed where this is checked
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.score = graph.load()

    def decode_request(self, request: dict[str, Any]) -> list[list[float]]:
        rows: list[list[float]] = request["instances"]
        return rows

    def predict(self, rows: list[list[float]]) -> Any:
        return self.score(rows)

    def encode_response(self, scores: Any) -> dict[str, list[float]]:
        return {"scores": scores.tolist()}


if __name__ == "__main__":
    port, processes = map(int, sys.argv[1:])
    # Its queue over ZeroMQ is the faster one; an HTTP server for each worker, as its documentation advises.
    server = litserve.LitServer(Graph(), accelerator="cpu", workers_per_device=processes, fast_queue=True)
    server.run(host="127.0.0.1", port=port, num_api_servers=processes, log_level="error", generate_client_file=False)
