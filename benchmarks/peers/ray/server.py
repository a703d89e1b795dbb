"""python -m benchmarks.peers.ray.server PORT REPLICAS FOLDER; SIGHUP deploys again, with what then is in the folder."""

import signal
import sys

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

from benchmarks.peers import graph

port, replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


@serve.deployment(
    num_replicas=replicas,
    max_ongoing_requests=128,
    ray_actor_options={"num_cpus": 0.1},
    logging_config=LoggingConfig(enable_access_log=False),
)
class Graph:
    def __init__(self) -> None:
        self.score = graph.load()

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        rows = (await request.json())["instances"]
        return {"scores": self.score(rows).tolist()}


def deploy() -> None:
    serve.run(Graph.bind())  # type: ignore[attr-defined]  # Ray, whose decorator adds it, is not installed here


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    quiet = LoggingConfig(enable_access_log=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "access_log": False}, logging_config=quiet)
    deploy()
    signal.signal(signal.SIGHUP, lambda *_: deploy())
    while True:
        signal.pause()
