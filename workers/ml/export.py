"""A fitted model → an artifact of format `onnx`, and the proof that both answer alike."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app.runtimes import Batch, Prediction, Predictor
from app.runtimes.onnx import decide
from app.runtimes.schema import Head, InputSchema
from workers.ml import nodes
from workers.ml.fitting import Model
from workers.ml.graph import Graph
from workers.ml.scoring import Probabilities
from workers.pipeline import PipelineError

SMOKE_INPUTS = 100
TOLERANCE = 1e-4  # of a probability; float32 sums over a few hundred trees stay far below it
UNSEEN = "a category that no training row has"


def to_onnx(model: Model, classes: int) -> bytes:
    """The model with its encoding inside, as `app.runtimes.onnx` reads it. Same model, same bytes."""
    graph = Graph()
    features = model.encoding.add_to(graph)
    nodes.probabilities(graph, model.family.write(graph, features, model.estimator), classes)
    return graph.model(probabilities=classes)


def write(folder: Path, model: bytes, schema: InputSchema, examples: Batch) -> None:
    """model.onnx, schema.json and smoke.json: 100 of the examples, spread evenly, repeated where fewer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "schema.json").write_bytes(orjson.dumps(schema.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    spread = np.linspace(0, len(examples) - 1, SMOKE_INPUTS).round().astype(np.int64)
    smoke = to_rows(examples.take(spread), schema)
    (folder / "smoke.json").write_bytes(orjson.dumps({"rows": smoke}))


def to_rows(batch: Batch, schema: InputSchema) -> list[list[Any]]:
    """The rows as a caller would send them: lists in the schema's order, null for a missing value."""
    numeric, categorical = batch.numeric.astype(np.object_), batch.categorical.copy()
    numeric[np.isnan(batch.numeric)] = None
    categorical[categorical == ""] = None
    columns = dict(zip(schema.numeric, numeric.T, strict=True)) | dict(
        zip(schema.categorical, categorical.T, strict=True)
    )
    rows: list[list[Any]] = np.column_stack([columns[column.name] for column in schema.columns]).tolist()
    return rows


def check_parity(model: Model, published: Predictor, batch: Batch) -> Prediction:
    """Compares the published artifact with the model it was made of, on `batch` and on rows with gaps in it.

    Returns the published prediction of `batch`. Raises PipelineError `export_mismatch` where a probability
    differs by more than 1e-4, or a label differs that is not a toss-up within 1e-4.
    """
    head = published.schema.heads[0]
    (prediction,) = published.predict(batch)
    _compare(model.probabilities(batch), prediction, head)
    gaps = with_gaps(batch)
    _compare(model.probabilities(gaps), published.predict(gaps)[0], head)
    return prediction


def with_gaps(batch: Batch) -> Batch:
    """Up to a thousand of the rows: a third of the cells is missing, a third of the names was never seen."""
    rows, generator = min(len(batch), 1000), np.random.default_rng(0)
    numeric, categorical = batch.numeric[:rows].copy(), batch.categorical[:rows].copy()
    numeric[generator.random(numeric.shape) < 1 / 3] = np.nan
    drawn = generator.random(categorical.shape)
    categorical[drawn < 2 / 3] = UNSEEN
    categorical[drawn < 1 / 3] = ""
    return Batch(numeric, categorical)


def _compare(original: Probabilities, published: Prediction, head: Head) -> None:
    distance = np.abs(original - published.probabilities)
    expected = decide(original, head)
    differing = expected.indices != published.indices
    wrong = differing & (_margin(original, head) > TOLERANCE)
    # Written so that NaN fails too.
    if not float(distance.max()) <= TOLERANCE or wrong.any():
        raise PipelineError(
            "export_mismatch",
            f"The exported model differs from the trained one: by up to {distance.max():.2g} in probability, "
            f"and in the label of {np.count_nonzero(wrong)} of {len(wrong)} rows.",
            "Leave its family out of training.families, and report it: the export does not fit the library.",
        )


def _margin(probabilities: Probabilities, head: Head) -> Probabilities:
    """How far each row is from another label."""
    if head.threshold is not None:
        distance: Probabilities = np.abs(probabilities[:, 1] - head.threshold)
        return distance
    ordered: Probabilities = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]
