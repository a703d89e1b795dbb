"""An ONNX graph under construction. Names are counted, not random: the same steps give the same bytes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Both long since read by every runtime in use; the pair fixes the bytes whatever version of onnx writes them.
OPSETS = {"": 21, "ai.onnx.ml": 3}
IR_VERSION = 10
FLOAT = onnx.TensorProto.FLOAT


@dataclass
class Graph:
    """Every tensor has a name; `add` and `constant` return that of what they made."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)

    def input(self, name: str, kind: int, width: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        return name

    def constant(self, values: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def model(self, **outputs: int) -> bytes:
        """The checked model, whose outputs are float32 (rows, width), named with their widths."""
        given = [helper.make_tensor_value_info(name, FLOAT, ["rows", width]) for name, width in outputs.items()]
        graph = helper.make_graph(self.nodes, "classifier", self.inputs, given, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="refit")
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
