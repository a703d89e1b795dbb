"""Artifacts of format `onnx`, as replicas and the gate load them."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.runtimes import Batch, names
from app.runtimes import load_predictor as load
from app.runtimes.onnx import decide
from app.runtimes.rows import to_batch
from app.runtimes.schema import Column, Head, InputSchema

COLUMNS = (
    Column(name="a", kind="numeric"),
    Column(name="b", kind="categorical"),
    Column(name="c", kind="numeric"),
)
SCHEMA = InputSchema(columns=COLUMNS, heads=(Head(name="y", labels=("no", "yes"), threshold=0.5),))


def artifact(folder: Path, schema: InputSchema = SCHEMA, width: int = 2) -> Path:
    """Probability of yes: sigmoid(a + c), or 1 where b is "sure"."""
    sigmoid = [
        helper.make_node("ReduceSum", ["numeric", "axis"], ["logit"], keepdims=1),
        helper.make_node("Sigmoid", ["logit"], ["chance"]),
        helper.make_node("Equal", ["categorical", "sure"], ["certain"]),
        helper.make_node("Where", ["certain", "one", "chance"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["rows", width]),
        helper.make_tensor_value_info("categorical", TensorProto.STRING, ["rows", 1]),
    ]
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        numpy_helper.from_array(np.array("sure", object), "sure"),
    ]
    graph = helper.make_graph(sigmoid, "test", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    (folder / "schema.json").write_text(schema.model_dump_json())
    (folder / "smoke.json").write_text(json.dumps({"rows": [[0, "sure", None], [1, None, 2]]}))
    return folder


def test_an_artifact_answers_with_scores_and_labels(tmp_path: Path) -> None:
    predictor = load("onnx", artifact(tmp_path))
    (prediction,) = predictor.predict(to_batch([[-1, "?", 0], [1, "?", 1], [-9, "sure", 0]], predictor.schema))
    np.testing.assert_allclose(prediction.scores, [0.26894143, 0.8807971, 1.0], rtol=1e-6)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1)
    assert prediction.labels(predictor.schema.heads[0]) == ["no", "yes", "yes"]


def test_a_score_at_the_threshold_is_positive(tmp_path: Path) -> None:
    predictor = load("onnx", artifact(tmp_path))
    (prediction,) = predictor.predict(to_batch([[0, "?", 0]], predictor.schema))
    assert (prediction.scores[0], prediction.labels(predictor.schema.heads[0])) == (0.5, ["yes"])


def test_of_three_labels_the_most_probable_one_is_the_answer() -> None:
    schema = InputSchema(columns=COLUMNS, heads=(Head(name="y", labels=(1, 2, 3)),))
    prediction = decide(np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]), schema.heads[0])
    assert prediction.labels(schema.heads[0]) == [2, 3]
    np.testing.assert_allclose(prediction.scores, [0.5, 0.7])


def test_the_smoke_inputs_travel_with_the_artifact(tmp_path: Path) -> None:
    assert load("onnx", artifact(tmp_path)).smoke_inputs() == [[0, "sure", None], [1, None, 2]]


def test_a_model_that_does_not_fit_its_schema_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.onnx takes .* columns, schema.json names"):
        load("onnx", artifact(tmp_path, width=3))


def test_threads_share_one_predictor(tmp_path: Path) -> None:
    predictor = load("onnx", artifact(tmp_path))

    def score(number: int) -> float:
        batch = Batch(np.full((50, 2), number / 100, np.float32), np.full((50, 1), "?", np.object_))
        scores = predictor.predict(batch)[0].scores
        assert len(set(scores.tolist())) == 1
        return float(scores[0])

    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(score, range(200)))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-2 * np.arange(200) / 100)), rtol=1e-5)


def test_formats_are_the_runtime_files_and_an_unknown_one_names_them(tmp_path: Path) -> None:
    assert "onnx" in names()
    assert not {"rows", "schema", "table"} & set(names())
    with pytest.raises(ValueError, match=r"no runtime for artifacts of format 'pickle'; known are .*onnx"):
        load("pickle", tmp_path)


def test_an_artifact_of_before_there_were_heads_is_served_on() -> None:
    told = {"columns": [{"name": "a", "kind": "numeric"}], "labels": ["no", "yes"], "threshold": 0.3}
    [head] = InputSchema.model_validate(told).heads
    assert (head.labels, head.threshold) == (("no", "yes"), 0.3)
