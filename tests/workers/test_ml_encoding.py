"""Rows to features, in numpy and in ONNX."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from app.runtimes import Batch
from workers.ml.encoding import Encoding, fit
from workers.ml.graph import IR_VERSION, OPSETS, Graph

NAN = np.nan


def batch(numeric: list[list[float]], categorical: list[list[str]]) -> Batch:
    rows = max(len(numeric), len(categorical))
    return Batch(
        np.array(numeric, np.float32).reshape(rows, -1 if numeric else 0),
        np.array(categorical, np.object_).reshape(rows, -1 if categorical else 0),
    )


def features_by_onnx(encoding: Encoding, given: Batch) -> np.ndarray:
    graph = Graph()
    output = helper.make_tensor_value_info(encoding.add_to(graph), TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(graph.nodes, "test", graph.inputs, [output], graph.constants),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"numeric": given.numeric, "categorical": given.categorical}
    features: np.ndarray = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]
    return features


def test_numbers_are_centred_scaled_and_flagged_where_missing() -> None:
    encoding = fit(batch([[1.0, 5.0], [3.0, NAN], [5.0, 7.0]], []))
    features = encoding.transform(batch([[3.0, NAN], [3.0 + 2 * np.sqrt(8 / 3), 6.0]], []))
    np.testing.assert_allclose(features, [[0, 0, 1], [2, 0, 0]], atol=1e-6)


def test_frequent_names_have_a_column_and_rare_or_unseen_ones_are_all_zeros() -> None:
    encoding = fit(batch([], [["a"], ["b"], ["a"], [""], ["b"], [""], ["once"]]))
    assert encoding.categories == (("", "a", "b"),)
    features = encoding.transform(batch([], [["b"], [""], ["once"], ["never"]]))
    assert features.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_at_most_the_64_most_frequent_names_have_a_column() -> None:
    names = [[f"n{i:03}"] for i in range(100) for _ in range(2 + (i >= 50))]
    (kept,) = fit(batch([], names)).categories
    assert len(kept) == 64
    assert {f"n{i:03}" for i in range(50, 100)} < set(kept)


def test_constant_and_empty_columns_say_nothing() -> None:
    encoding = fit(batch([[4.0, NAN], [4.0, NAN]], [["", "x"], ["", "x"]]))
    features = encoding.transform(batch([[4.0, NAN]], [["", "x"]]))
    assert features.tolist() == [[0, 0, 1, 1, 1]]


@pytest.mark.parametrize("rows", [1, 500])
def test_onnx_gives_bit_identical_features(rows: int) -> None:
    generator = np.random.default_rng(3)
    numeric = generator.lognormal(3, 4, (rows, 6)).astype(np.float32)
    numeric[generator.random(numeric.shape) < 0.2] = NAN
    categorical = generator.choice(["", "a", "b", "é", "unseen"], (rows, 2)).astype(np.object_)
    encoding = fit(Batch(np.vstack([numeric, numeric]), np.vstack([categorical, categorical])))
    largest = float(np.finfo(np.float32).max)
    numeric[0] = [largest, -largest, 1e-45, 0, NAN, -0.0]
    given = Batch(numeric, categorical)
    np.testing.assert_array_equal(features_by_onnx(encoding, given), encoding.transform(given))
    assert np.isfinite(encoding.transform(given)).all()
    assert encoding.transform(given).shape == (rows, encoding.width)
