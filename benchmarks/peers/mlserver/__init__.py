"""MLServer, asked by the V2 inference protocol: with the runtime that it ships for scikit-learn, and with one for ONNX.

It ships none for ONNX, so the second is what a user would have to write for it (runtime.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Command, Request, Rows, Start, post
from benchmarks.peers.ports import free

MODEL_NAME = "tumours"
PROBABILITIES = "predict_proba"


@dataclass(frozen=True)
class MLServer:
    """`parallel` is MLServer's default: inference in worker processes. Without it, in the process of the server."""

    name: str
    parallel: bool
    own_runtime: bool = False
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
        (start.scratch / "settings.json").write_text(json.dumps(settings))
        (start.scratch / "model-settings.json").write_text(json.dumps(self._model(start.model)))
        return Command([str(start.bin / "mlserver"), "start", str(start.scratch)])

    def _model(self, folder: Path) -> dict[str, object]:
        if self.own_runtime:
            return {"name": MODEL_NAME, "implementation": f"{__name__}.runtime.Graph"}
        shipped = {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": f"{folder}/model.joblib"}}
        return {"name": MODEL_NAME, **shipped}

    def request(self, rows: Rows) -> Request:
        values = [value for row in rows for value in row]
        given = {"name": "numeric", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": values}
        asked = {} if self.own_runtime else {"outputs": [{"name": PROBABILITIES}]}
        return post(f"/v2/models/{MODEL_NAME}/infer", {"inputs": [given], **asked})

    def scores(self, answer: bytes) -> list[float]:
        values: list[float] = json.loads(answer)["outputs"][0]["data"]
        # The shipped runtime tells both probabilities of each row.
        return values if self.own_runtime else values[1::2]


DEFAULT = MLServer("MLServer", parallel=True)
IN_PROCESS = MLServer("MLServer, in-process", parallel=False)
OWN_RUNTIME = MLServer("MLServer, in-process, ONNX runtime of one's own", parallel=False, own_runtime=True)
