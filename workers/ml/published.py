"""An ONNX graph that Refit wrote → what was fitted, again: encoding, dense layers, trees. In float32, as it is served.

It reads what `workers.ml.encoding` and `workers.ml.nodes` write, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from workers.ml.classes import Matrix
from workers.ml.encoding import Encoding

Layer = tuple[Matrix, Matrix]  # weights (inputs, outputs), bias (outputs,)


class Unreadable(Exception):
    """The graph is none that Refit writes today."""


@dataclass(frozen=True)
class Trees:
    """Boosted trees. `values` by ONNX's name of the attribute, one entry a node or a leaf; `base` (targets,)."""

    targets: int
    base: npt.NDArray[np.float32]
    values: dict[str, npt.NDArray[Any]]


class Published:
    """A graph, by operator and by what goes into each node."""

    def __init__(self, content: bytes) -> None:
        """Raises Unreadable for bytes that are no ONNX model."""
        try:
            self._graph = onnx.load_model_from_string(content).graph
        except Exception as error:  # protobuf's errors share no public base
            raise Unreadable("it is no ONNX model") from error
        self._constants = {each.name: numpy_helper.to_array(each) for each in self._graph.initializer}

    def encoding(self) -> Encoding:
        """Raises Unreadable."""
        medians = means = scales = np.zeros(0, np.float32)
        flagged = np.zeros(0, np.int64)
        if any(each.name == "numeric" for each in self._graph.input):
            missing, filled = self._after("IsNaN", "numeric"), self._one("Where")
            centred = self._after("Sub", filled.output[0])
            scaled = self._after("Mul", centred.output[0])
            medians, means, scales = (self._constant(node, 1) for node in (filled, centred, scaled))
            flags = [node for node in self._all("Gather") if node.input[0] == missing.output[0]]
            flagged = self._constant(flags[0], 1) if flags else flagged
        return Encoding(medians, means, scales, flagged, self._categories())

    def layers(self) -> list[Layer]:
        """The dense layers, in the order in which they were written. Raises Unreadable where there is none."""
        found = [(self._constant(node, 1), self._constant(node, 2)) for node in self._all("Gemm")]
        if not found:
            raise Unreadable("it has no dense layer")
        return found

    def trees(self) -> Trees:
        """Raises Unreadable where there is not one ensemble."""
        node = self._one("TreeEnsembleRegressor")
        told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        values = {name: np.array(value) for name, value in told.items() if name.startswith(("nodes_", "target_"))}
        return Trees(told["n_targets"], np.array(told["base_values"], np.float32), values)

    def _categories(self) -> tuple[tuple[str, ...], ...]:
        """Of each categorical column; none where all of its names are rare."""
        widths = [each.type.tensor_type.shape.dim[1].dim_value for each in self._graph.input if each.name != "numeric"]
        found: list[tuple[str, ...]] = [()] * sum(widths)
        for node in self._all("OneHotEncoder"):
            column = next(each for each in self._all("Gather") if each.output[0] == node.input[0])
            names = helper.get_node_attr_value(node, "cats_strings")
            found[int(self._constant(column, 1))] = tuple(name.decode() for name in names)
        return tuple(found)

    def _all(self, operator: str) -> Sequence[Any]:
        return [node for node in self._graph.node if node.op_type == operator]

    def _one(self, operator: str) -> Any:
        found = self._all(operator)
        if len(found) != 1:
            raise Unreadable(f"it has {len(found)} nodes {operator}, and not one")
        return found[0]

    def _after(self, operator: str, name: str) -> Any:
        found = [node for node in self._all(operator) if node.input[0] == name]
        if len(found) != 1:
            raise Unreadable(f"it has {len(found)} nodes {operator} behind {name}, and not one")
        return found[0]

    def _constant(self, node: Any, place: int) -> npt.NDArray[Any]:
        if len(node.input) <= place or node.input[place] not in self._constants:
            raise Unreadable(f"a node {node.op_type} has no constant where Refit writes one")
        return self._constants[node.input[place]]


def read(path: Path) -> Published:
    """From bytes, so that a graph cannot point at files outside the artifact. Raises OSError, Unreadable."""
    return Published(path.read_bytes())
