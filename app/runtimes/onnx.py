"""Artifacts of format `onnx`: model.onnx + schema.json + smoke.json, run by ONNX Runtime.

The graph takes `numeric` float32 (n, a) and `categorical` string (n, b), each absent where the schema has no
such column, and gives `probabilities` float32 (n, k). The preprocessing is inside.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson

from app.runtimes import Batch, Prediction
from app.runtimes.schema import Head, InputSchema


class OnnxPredictor:
    """A loaded model. Sessions are thread-safe, and each call runs in the thread that makes it."""

    is_quick = True

    def __init__(self, session: Any, schema: InputSchema, smoke: list[list[Any]]) -> None:
        self.schema = schema
        self._session = session
        self._smoke = smoke

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        inputs = {"numeric": batch.numeric, "categorical": batch.categorical}
        feeds = {name: values for name, values in inputs.items() if values.shape[1]}
        (probabilities,) = self._session.run(["probabilities"], feeds)
        return (decide(probabilities, self.schema.heads[0]),)

    def smoke_inputs(self) -> list[list[Any]]:
        return self._smoke


def load(folder: Path) -> OnnxPredictor:
    """The predictor of the artifact in `folder`.

    Raises OSError for a missing file, ValueError where model.onnx and schema.json do not belong together, and
    ONNX Runtime's own errors for a broken model.
    """
    schema = InputSchema.model_validate_json((folder / "schema.json").read_bytes())
    # From bytes, so that a model cannot point at tensors in files outside the artifact.
    session = onnxruntime.InferenceSession(
        (folder / "model.onnx").read_bytes(), _options(), providers=["CPUExecutionProvider"]
    )
    _check_inputs(session, schema)
    return OnnxPredictor(session, schema, orjson.loads((folder / "smoke.json").read_bytes())["rows"])


def decide(probabilities: npt.NDArray[np.floating[Any]], head: Head) -> Prediction:
    """Scores and labels from probabilities (n, k), by the rule that stands in Head."""
    narrow = probabilities.astype(np.float32, copy=False)
    if head.threshold is None:
        return Prediction(narrow, narrow.max(axis=1), narrow.argmax(axis=1).astype(np.int64))
    scores = narrow[:, 1]
    return Prediction(narrow, scores, (scores >= head.threshold).astype(np.int64))


def _options() -> Any:
    # One batch takes tens of microseconds: a pool of threads costs more than it brings, and spinning ones
    # starve the API.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _check_inputs(session: Any, schema: InputSchema) -> None:
    widths = {"numeric": len(schema.numeric), "categorical": len(schema.categorical)}
    expected = {name: width for name, width in widths.items() if width}
    found = {given.name: given.shape[1] for given in session.get_inputs()}
    if found != expected:
        raise ValueError(f"model.onnx takes {found} columns, schema.json names {expected}")
