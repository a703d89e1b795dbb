"""The graph as a function, for the peers' own servers; needs numpy and ONNX Runtime and nothing of Refit."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.peers import MODEL


def load(folder: str | None = None) -> Callable[[Any], npt.NDArray[np.float32]]:
    """rows (n, 30) → scores (n,), by model.onnx in `folder` or where the environment names it.

    Each request is answered on one thread, as it is in Refit: with more, processes fight for the cores.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = Path(folder or os.environ[MODEL]) / "model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def score(rows: Any) -> npt.NDArray[np.float32]:
        (probabilities,) = session.run(["probabilities"], {"numeric": np.asarray(rows, np.float32)})
        scores: npt.NDArray[np.float32] = np.ascontiguousarray(probabilities[:, 1])
        return scores

    return score
