"""MLServer with a runtime of one's own, since it ships none for ONNX; asked by the V2 inference protocol."""

import json
from dataclasses import dataclass

from benchmarks.peers import Command, Request, Rows, Start, post
from benchmarks.peers.ports import free

MODEL_NAME = "tumours"


@dataclass(frozen=True)
class MLServer:
    """`parallel` is MLServer's default: inference in worker processes. Without it, in the process of the server."""

    name: str
    parallel: bool
    environment: str = "mlserver"

    @property
    def most_processes(self) -> int | None:
        return None if self.parallel else 1

    def command(self, start: Start) -> Command:
        grpc, metrics = free(2)
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": start.port,
            "grpc_port": grpc,
            "metrics_port": metrics,
            "metrics_dir": str(start.scratch / "metrics"),
            "parallel_workers": start.processes if self.parallel else 0,
        }
        model = {"name": MODEL_NAME, "implementation": f"{__name__}.runtime.Graph"}
        (start.scratch / "settings.json").write_text(json.dumps(settings))
        (start.scratch / "model-settings.json").write_text(json.dumps(model))
        return Command([str(start.bin / "mlserver"), "start", str(start.scratch)])

    def request(self, rows: Rows) -> Request:
        values = [value for row in rows for value in row]
        given = {"name": "numeric", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": values}
        return post(f"/v2/models/{MODEL_NAME}/infer", {"inputs": [given]})

    def scores(self, answer: bytes) -> list[float]:
        scores: list[float] = json.loads(answer)["outputs"][0]["data"]
        return scores


DEFAULT = MLServer("MLServer", parallel=True)
IN_PROCESS = MLServer("MLServer, in-process", parallel=False)
