"""What every system serves: the graph that Refit trained, beside a scikit-learn model for those that take no ONNX."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
from sklearn.datasets import load_breast_cancer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.registry import artifacts
from benchmarks.data import breast_cancer, features
from benchmarks.peers import Rows
from benchmarks.service import Service, until

MODEL_NAME = "tumours"
# One trial of one family: a standard scaler and a perceptron of two layers of 64; the second version learns slower.
TRAINING = {"families": ["mlp"], "optuna_trials": 1, "cv_folds": 2}
LEARNING_RATES = (3e-3, 1e-3)
# This is about speed: whatever was learnt is good enough to be swapped in.
LENIENT = {"f1": {"max_drop": 1.0}, "auc_roc": {"max_drop": 1.0}, "precision": {"min": 0.0}, "recall": {"min": 0.0}}
# Of scikit-learn's targets, 0 is malignant and 1 is benign.
MALIGNANT = 0
GRAPH, ESTIMATOR = "model.onnx", "model.joblib"
TOLERANCE = 1e-4
NOISE = 0.01


@dataclass(frozen=True)
class Version:
    """`folder` holds model.onnx and model.joblib; the scores of two versions differ, so that an answer tells which."""

    number: int
    folder: Path

    def expected(self, rows: Rows) -> list[float]:
        """What model.onnx answers: the reference for each system that serves it."""
        session = onnxruntime.InferenceSession(self.folder / GRAPH, providers=["CPUExecutionProvider"])
        (probabilities,) = session.run(["probabilities"], {"numeric": np.asarray(rows, np.float32)})
        return [float(score) for score in probabilities[:, 1]]

    def estimated(self, rows: Rows) -> list[float]:
        """What model.joblib answers."""
        estimator = joblib.load(self.folder / ESTIMATOR)
        return [float(score) for score in estimator.predict_proba(np.asarray(rows))[:, 1]]

    def answered(self, rows: Rows, scores: list[float]) -> bool:
        """Whether these are the scores of this version, by one of its two files."""
        return any(
            len(scores) == len(known) and np.allclose(scores, known, rtol=0, atol=TOLERANCE)
            for known in (self.expected(rows), self.estimated(rows))
        )


def train(service: Service, folder: Path) -> tuple[Version, Version]:
    """Trains the model twice: version 1 is active and 2 in standby. Both are exported below `folder`."""
    data = breast_cancer(service.inputs / "tumours.csv")
    first, second = (_train(service, data, rate) for rate in LEARNING_RATES)
    return _export(service, first, folder), _export(service, second, folder)


def rows_of(service: Service, count: int) -> list[dict[str, float]]:
    """So many tumours by name of the measure, each disturbed a little, always alike.

    What comes out of a computation has 16 digits, and its JSON is three times as long as that of what was typed in.
    """
    known = features({"path": service.inputs / "tumours.csv", "key": "id", "label": "diagnosis"})
    noise = np.random.default_rng(7).normal(1.0, NOISE, (count, len(known[0])))
    return [
        {name: value * float(factor) for (name, value), factor in zip(known[i % len(known)].items(), row, strict=True)}
        for i, row in enumerate(noise)
    ]


def _train(service: Service, data: dict[str, Any], learning_rate: float) -> int:
    """The number of a new version; the first one is made active."""
    service.define(
        MODEL_NAME,
        data,
        training=TRAINING | {"learning_rate": learning_rate},
        prerequisites={"min_new_samples": 0},
        gate={"mode": "point", "criteria": LENIENT},
        watch={"minutes": 0},
    )
    number: int = service.train(MODEL_NAME)["version"]
    until(lambda: service.slots(MODEL_NAME)["standby"] == number, f"version {number} in standby")
    if number == 1:
        service.api.post("/model/reload", {"model": MODEL_NAME, "reason": "to be measured"})
    return number


def _export(service: Service, number: int, folder: Path) -> Version:
    """Refit's own graph, and an estimator of the same kind and size on the same rows."""
    version = Version(number, folder / str(number))
    version.folder.mkdir(parents=True)
    digest = service.version(MODEL_NAME, number)["artifact"]
    shutil.copy(artifacts.folder_of(service.folder / "store", digest) / GRAPH, version.folder / GRAPH)
    tumours = load_breast_cancer()
    perceptron = MLPClassifier((64, 64), learning_rate_init=3e-3, max_iter=300, random_state=number)
    estimator = make_pipeline(StandardScaler(), perceptron).fit(tumours.data, tumours.target == MALIGNANT)
    joblib.dump(estimator, version.folder / ESTIMATOR)
    return version
