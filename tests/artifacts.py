"""Small real artifacts: the positive probability is sigmoid(bias + a)."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from app.registry import artifacts
from app.registry.artifacts import Manifest
from app.runtimes.schema import Column, Head, InputSchema

SCHEMA = InputSchema(
    columns=(Column(name="a", kind="numeric"), Column(name="b", kind="numeric")),
    heads=(Head(name="y", labels=("no", "yes"), threshold=0.5),),
)


# The reference profile of a version: deciles of `a`, one edge of `b`, three bins of the score.
PROFILE = {
    "rows": 100,
    "columns": {
        "a": {"kind": "numeric", "edges": [-1.0, 0.0, 1.0], "counts": [25] * 4, "missing": 0},
        "b": {"kind": "numeric", "edges": [0.5], "counts": [50, 40], "missing": 10},
    },
    "heads": {"y": {"scores": {"kind": "numeric", "edges": [0.25, 0.5], "counts": [40, 40, 20], "missing": 0}}},
}


def publish(
    store: Path,
    folder: Path,
    *,
    bias: float = 0.0,
    smoke_rows: int = 100,
    profile: dict[str, Any] | None = None,
    schema: InputSchema = SCHEMA,
) -> str:
    """The digest of a published artifact; another bias is another artifact."""
    folder.mkdir(parents=True)
    onnx.save(_graph(bias), folder / "model.onnx")
    (folder / "schema.json").write_text(schema.model_dump_json())
    (folder / "smoke.json").write_bytes(orjson.dumps({"rows": [[i / 100, None] for i in range(smoke_rows)]}))
    if profile is not None:
        (folder / "profile.json").write_bytes(orjson.dumps(profile))
    unnamed = Manifest(
        format="onnx", model_type="classifier", data_version="d" * 64, code_revision="test", files={}, details={}
    )
    return artifacts.publish(store, folder, unnamed).digest


def _graph(bias: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["numeric", "first"], ["a"], axis=1),
        helper.make_node("Add", ["a", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.array(bias, np.float32), "bias"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    given = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["rows", 2])]
    answer = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])]
    graph = helper.make_graph(nodes, "test", given, answer, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
