"""One version, measured on the holdout: by the runtime that serves it, in batches as it is asked for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pyarrow as pa

from app.errors import Invalid
from app.gate.criteria import LATENCY
from app.gate.metrics import point_estimates
from app.gate.report import LabelStanding
from app.gate.tally import Answers, Floats, Integers
from app.runtimes import Batch, Prediction, Predictor
from app.runtimes.schema import Head, Label, named
from app.runtimes.table import to_batch

# Runbook 002 asks for the p99 of 100-row batches; with fewer than a hundred of them that is their maximum.
# A slow version is let off with fewer once the budget is spent, and its slowest batch counts.
BATCH_ROWS = 100
TIMED_BATCHES = 100
TIMING_BUDGET_SECONDS = 10.0


class Unmeasurable(Exception):
    """A version that cannot answer the holdout's rows; the message says why."""


@dataclass(frozen=True)
class Answered:
    """One version's predictions of every row of a table, by head, and the seconds of each timed batch."""

    heads: dict[str, tuple[Head, list[Prediction]]]
    seconds: list[float]

    def of(self, head: str) -> tuple[Head, list[Prediction]]:
        """The head of that name, or the only one there is: a label column may have been renamed."""
        if head not in self.heads and len(self.heads) > 1:
            raise Unmeasurable(f"it does not predict {head}")
        return self.heads.get(head) or next(iter(self.heads.values()))


@dataclass(frozen=True)
class Measured:
    """One head's answers to all rows, its finite figures by metric, and how many batches were timed."""

    answers: Answers
    figures: dict[str, float]
    batches: int


def truth_of(values: Sequence[object], labels: Sequence[Label]) -> Integers:
    """The true labels as indices into `labels`, by value: 1, 1.0 and true are one label, "1" is another.

    Raises Unmeasurable naming the values that are none of the labels.
    """
    position: dict[object, int] = {label: index for index, label in enumerate(labels)}
    if unknown := [value for value in dict.fromkeys(values) if value not in position]:
        raise Unmeasurable(f"the candidate does not know these labels of the holdout: {_listed(unknown)}")
    return np.array([position[value] for value in values], np.int64)


def answer(predictor: Predictor, table: pa.Table) -> Answered:
    """Predicts every row of `table`. Raises Unmeasurable where the version cannot read or answer the rows."""
    if not table.num_rows:
        raise Unmeasurable("the holdout has no rows")
    try:
        parts, seconds = _timed_predictions(predictor, to_batch(table, predictor.schema))
    except Invalid as error:
        raise Unmeasurable(error.message.rstrip(".")) from error
    except Exception as error:  # whatever a runtime raises: a version that cannot predict has no figures
        raise Unmeasurable(f"it cannot predict ({type(error).__name__}: {error})") from error
    by_head = zip(predictor.schema.heads, zip(*parts, strict=True), strict=True)
    return Answered({head.name: (head, list(predictions)) for head, predictions in by_head}, seconds)


def measure(answered: Answered, name: str, rows: Integers, truth: Integers, labels: Sequence[Label]) -> Measured:
    """Measures the answers of head `name` to the `rows` of the table against their `truth`, indices into `labels`.

    Raises Unmeasurable where the version has no such head, does not know a label, or answers with numbers that are
    not finite.
    """
    head, parts = answered.of(name)
    position = {label: index for index, label in enumerate(head.labels)}
    if unknown := [label for label in labels if label not in position]:
        raise Unmeasurable(f"it does not know these labels of the candidate: {_listed(unknown)}")
    columns = np.array([position[label] for label in labels])
    answers = _answers(parts, rows, truth, columns, len(position))
    figures = point_estimates(answers) | {LATENCY: nearest_rank(answered.seconds, 0.99)}
    return Measured(answers, {k: v for k, v in figures.items() if math.isfinite(v)}, len(answered.seconds))


def standing(measured: Measured | str, labels: Sequence[Label]) -> list[LabelStanding]:
    """Rows by label: truly so, given so, and both. Empty where nothing could be measured."""
    if isinstance(measured, str):
        return []
    answers = measured.answers
    right = answers.truth[answers.truth == answers.predicted]
    every = (answers.truth, answers.predicted[answers.predicted >= 0], right)
    counts = np.column_stack([np.bincount(indices, minlength=len(labels)) for indices in every]).tolist()
    return [
        LabelStanding(label=label, actual=a, given=g, hits=h) for label, (a, g, h) in zip(labels, counts, strict=True)
    ]


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The smallest value that a `share` of them does not exceed (Hyndman & Fan 1996, definition 1)."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _timed_predictions(predictor: Predictor, batch: Batch) -> tuple[list[tuple[Prediction, ...]], list[float]]:
    """Predictions that cover every row once and then start over, and the seconds of each full batch."""
    parts: list[tuple[Prediction, ...]] = []
    seconds: list[float] = []
    predictor.predict(_cut(batch, 0))  # the first call allocates; a replica is warmed before it serves, too
    while len(parts) * BATCH_ROWS < len(batch) or (len(parts) < TIMED_BATCHES and sum(seconds) < TIMING_BUDGET_SECONDS):
        part = _cut(batch, len(parts) * BATCH_ROWS)
        started = perf_counter()
        parts.append(predictor.predict(part))
        seconds.append(perf_counter() - started)
    return parts, seconds


def _cut(batch: Batch, first: int) -> Batch:
    """A full batch from row `first` on, going round where the rows end."""
    return batch.take((first + np.arange(BATCH_ROWS)) % len(batch))


def _answers(parts: list[Prediction], rows: Integers, truth: Integers, columns: Integers, known: int) -> Answers:
    """One prediction a row, in the candidate's labels; `columns` are their places in the version's."""
    probabilities: Floats = np.concatenate([p.probabilities for p in parts])[rows].astype(np.float64)
    if probabilities.shape != (len(truth), known):
        raise Unmeasurable(f"it answered {probabilities.shape} probabilities to {len(truth)} rows")
    if bad := int(np.sum(~np.isfinite(probabilities).all(axis=1))):
        raise Unmeasurable(f"its answers to {bad} of {len(truth)} rows are not finite numbers")
    to_ours = np.full(known, -1, np.int64)
    to_ours[columns] = np.arange(len(columns))
    indices = np.concatenate([p.indices for p in parts])[rows]
    return Answers(truth, to_ours[indices], probabilities[:, columns])


def _listed(labels: Sequence[object], most: int = 5) -> str:
    rest = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(map(named, labels[:most])) + rest
