"""python -m benchmarks.peers.mlflow.save VERSION FOLDER: the graph as a model of MLflow's."""

import sys
from pathlib import Path

import mlflow.onnx
import onnx

version, folder = sys.argv[1:]
mlflow.onnx.save_model(
    onnx.load(Path(version) / "model.onnx"),
    folder,
    onnx_session_options={
        "intra_op_num_threads": 1,
        "inter_op_num_threads": 1,
        "extra_session_config": {"session.intra_op.allow_spinning": "0"},
    },
)
