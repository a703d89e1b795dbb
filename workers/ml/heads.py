"""Heads: logistic regressions that tell the labels of a column apart by embeddings."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from optuna.distributions import FloatDistribution

from app.gate.criteria import Criterion
from app.runtimes import Prediction
from app.runtimes.embedding import EmbeddingPredictor, Embeddings
from app.runtimes.schema import Head, InputSchema
from workers.ml import nodes, scoring, threshold
from workers.ml.classes import ClassWeight, Indices, balanced_weights
from workers.ml.encoder_export import cosines
from workers.ml.estimator import Effort, Estimator, NotConverged, Weighted
from workers.ml.families import FAMILIES, go_on_logistic_regression
from workers.ml.graph import FLOAT, Graph
from workers.ml.published import Layer
from workers.ml.search import Checkpoint, Choice, Trial, search
from workers.pipeline import PipelineError

SMOKE_INPUTS = 100
PROBABILITY_TOLERANCE = 1e-4
# Embeddings have length 1, so the weights must be large: the search begins where most encoders end up.
FAMILY = "logistic_regression"
ADAPTED = FAMILIES[FAMILY].searching({"C": 10.0}, {"C": FloatDistribution(0.3, 1_000.0, log=True)})


@dataclass(frozen=True)
class Rows:
    """Embeddings (n, d) with the class of each."""

    embeddings: Embeddings
    classes: Indices

    @classmethod
    def labelled(cls, embeddings: Embeddings, classes: Indices) -> "Rows":
        known = classes >= 0
        return cls(embeddings[known], classes[known])


@dataclass(frozen=True)
class Task:
    """One label column: what its head learns from, and chooses its threshold by."""

    head: Head
    train: Rows
    validation: Rows

    @property
    def metric(self) -> str:
        """What a trial is scored by. Of two classes the one that knows no threshold, which is chosen later."""
        return "auc_roc" if len(self.head.labels) == 2 else "f1"


@dataclass(frozen=True)
class Trained:
    """A head, fitted. `score` is the cross-validated one of what was chosen; None: nothing was searched."""

    head: Head
    estimator: Estimator
    regularisation: float
    metric: str
    score: float | None
    trials: list[Trial]

    @property
    def described(self) -> str:
        at = f", threshold {self.head.threshold:.4f}" if self.head.threshold is not None else ""
        scored = f", {self.metric} {self.score:.4f} by cross-validation" if self.score is not None else ""
        return f"C {self.regularisation:.3g}{scored}{at}"

    def details(self) -> dict[str, Any]:
        return {
            "C": self.regularisation,
            f"cv_{self.metric}": self.score,
            "trials": [{"C": t.choice.hyperparameters["C"], f"cv_{self.metric}": t.score} for t in self.trials],
        }


def train(
    task: Task,
    *,
    trials: int,
    folds: int,
    class_weight: ClassWeight,
    seed: int,
    time_ordered: bool,
    criteria: Mapping[str, Criterion],
    checkpoint: Path,
    depends_on: Mapping[str, Any],
    on_trial: Callable[[int, float, float | None], None],
) -> Trained:
    """Searches the regularisation, fits on all training rows, chooses the threshold of two classes.

    Trials that `checkpoint` has of an earlier attempt are taken over. Raises PipelineError `not_converged`.
    """
    splits = list(_folds(task.train.classes, folds, seed, time_ordered))
    described = orjson.dumps({**depends_on, "head": task.head.name, "seed": seed}, option=orjson.OPT_SORT_KEYS)

    def evaluate(number: int, choice: Choice) -> float | None:
        try:
            score = _cross_validated(task, splits, choice, class_weight, seed)
        except NotConverged:
            score = None
        on_trial(number, choice.hyperparameters["C"], score)
        return score

    kept = Checkpoint(checkpoint, hashlib.sha256(described).hexdigest())
    tried = search({FAMILY: ADAPTED}, trials, seed, kept, evaluate)
    best = _best_of(tried)
    chosen = best.choice.hyperparameters["C"]
    assert best.score is not None
    try:
        estimator = _fit(task.train, chosen, class_weight, seed)
    except NotConverged as error:
        raise _not_converged(f"The best of {trials} trials converged in every fold, and not on all rows") from error
    head = _with_threshold(task, estimator, criteria)
    return Trained(head, estimator, chosen, task.metric, best.score, tried)


def go_on(
    task: Task,
    start: Layer,
    *,
    regularisation: float,
    class_weight: ClassWeight,
    seed: int,
    criteria: Mapping[str, Criterion],
) -> Trained:
    """From the weights of a published head, with its regularisation. Raises PipelineError `not_converged`."""
    weighted, effort = _weighted(task.train, class_weight, seed)
    try:
        estimator = go_on_logistic_regression(start, weighted, weighted, {"C": regularisation}, effort)
    except NotConverged as error:
        raise _not_converged(f"{task.head.name} did not settle from the active version: {error}") from error
    return Trained(_with_threshold(task, estimator, criteria), estimator, regularisation, task.metric, None, [])


def write(folder: Path, trained: Sequence[Trained], schema: InputSchema, texts: Sequence[str]) -> None:
    """heads.onnx, schema.json and smoke.json: 100 of the texts, spread evenly, repeated where fewer."""
    graph = Graph()
    embedding = graph.input("embedding", FLOAT, trained[0].estimator.coef_.shape[1])  # type: ignore[attr-defined]
    for place, each in enumerate(trained):
        logits = nodes.linear(graph, embedding, each.estimator)
        nodes.probabilities(graph, logits, len(each.head.labels), output=f"probabilities_{place}")
    widths = {f"probabilities_{place}": len(each.head.labels) for place, each in enumerate(trained)}
    (folder / "heads.onnx").write_bytes(graph.model(**widths))
    (folder / "schema.json").write_bytes(orjson.dumps(schema.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    spread = np.linspace(0, len(texts) - 1, SMOKE_INPUTS).round().astype(int)
    (folder / "smoke.json").write_bytes(orjson.dumps({"rows": [texts[place] for place in spread]}))


def check_parity(trained: Sequence[Trained], answers: Sequence[Prediction], embeddings: Embeddings) -> None:
    """Raises PipelineError `export_mismatch` where a probability differs by more than 1e-4 from scikit-learn's."""
    for each, prediction in zip(trained, answers, strict=True):
        distance = np.abs(each.estimator.predict_proba(embeddings) - prediction.probabilities).max()
        # Written so that NaN fails too.
        if not float(distance) <= PROBABILITY_TOLERANCE:
            raise PipelineError(
                "export_mismatch",
                f"The exported head {each.head.name} differs from the trained one by up to {distance:.2g}.",
                "Report it: the export does not fit the library.",
            )


def check_embeddings(predictor: EmbeddingPredictor, texts: Sequence[str], embeddings: Embeddings) -> None:
    """The files that are published embed the texts as they were embedded for training: alone as in company.

    Raises PipelineError `export_mismatch` where the cosine of a text is below 0.9999. In int8 activations are scaled by
    what stands in the same batch, so there it is 0.95.
    """
    places = np.linspace(0, len(texts) - 1, min(SMOKE_INPUTS, len(texts))).round().astype(int)
    alone = np.concatenate([predictor.encoder.encode([texts[place]]) for place in places])
    least = cosines(alone, embeddings[places]).min()
    required = 0.9999 if predictor.encoder.rule.precision == "fp32" else 0.95
    if not float(least) >= required:
        raise PipelineError(
            "export_mismatch",
            f"A text embedded by itself differs from the same in a batch: cosine {least:.5f}, {required} is required.",
            "Set training.precision to fp32.",
        )


def figures(schema: InputSchema, classes: Sequence[Indices], predictions: Sequence[Prediction]) -> dict[str, float]:
    """The validation rows' figures, with the head's name before them where there are several."""
    found: dict[str, float] = {}
    for head, known, prediction in zip(schema.heads, classes, predictions, strict=True):
        rows = known >= 0
        of_head = scoring.figures(known[rows], prediction.indices[rows], prediction.probabilities[rows])
        prefix = "" if len(schema.heads) == 1 else f"{head.name}."
        found |= {f"{prefix}{name}": value for name, value in of_head.items()}
    return found


def _folds(classes: Indices, folds: int, seed: int, time_ordered: bool) -> Any:
    from sklearn.model_selection import StratifiedKFold

    count = max(2, min(folds, int(np.bincount(classes).min())))
    splitter = StratifiedKFold(count, shuffle=not time_ordered, random_state=None if time_ordered else seed)
    return splitter.split(classes, classes)


def _cross_validated(
    task: Task, splits: Sequence[tuple[Indices, Indices]], choice: Choice, class_weight: ClassWeight, seed: int
) -> float:
    scores = []
    for train, test in splits:
        learnt = Rows(task.train.embeddings[train], task.train.classes[train])
        estimator = _fit(learnt, choice.hyperparameters["C"], class_weight, seed)
        probabilities, classes = estimator.predict_proba(task.train.embeddings[test]), task.train.classes[test]
        scores.append(scoring.figures(classes, probabilities.argmax(axis=1), probabilities)[task.metric])
    return float(np.mean(scores))


def _fit(rows: Rows, regularisation: float, class_weight: ClassWeight, seed: int) -> Estimator:
    weighted, effort = _weighted(rows, class_weight, seed)
    return FAMILIES[FAMILY].fit(weighted, weighted, {"C": regularisation}, effort)


def _weighted(rows: Rows, class_weight: ClassWeight, seed: int) -> tuple[Weighted, Effort]:
    count = int(rows.classes.max()) + 1
    weights = balanced_weights(rows.classes, count) if class_weight == "balanced" else np.ones(count)
    weighted = Weighted(rows.embeddings, rows.classes, weights[rows.classes])
    return weighted, Effort(epochs=1, patience=1, batch_size=1, accumulation=1, seed=seed)


def _best_of(tried: Sequence[Trial]) -> Trial:
    scored = [trial for trial in tried if trial.score is not None]
    if not scored:
        raise _not_converged(f"None of {len(tried)} trials converged")
    return max(scored, key=lambda trial: trial.score or 0.0)


def _with_threshold(task: Task, estimator: Estimator, criteria: Mapping[str, Criterion]) -> Head:
    if len(task.head.labels) > 2:
        return task.head
    scores = estimator.predict_proba(task.validation.embeddings)[:, 1].astype(np.float32)
    chosen = threshold.choose(scores, task.validation.classes == 1, criteria)
    return task.head.model_copy(update={"threshold": chosen.value})


def _not_converged(message: str) -> PipelineError:
    return PipelineError("not_converged", f"{message}.", "Look at the rows: texts of different labels may be alike.")
