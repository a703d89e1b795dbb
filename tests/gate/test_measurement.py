"""Measuring one version: which rows it is asked, in whose labels it is judged, and when it cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.gate.measurement import LATENCY, Unmeasurable, measure, truth_of
from app.runtimes import Batch, Prediction
from app.runtimes.schema import Column, InputSchema, Label

LABELS: tuple[Label, ...] = ("ok", "fraud")


class Echo:
    """Answers with its numeric column as the probability of its last label, and records what it was asked."""

    def __init__(self, labels: tuple[Label, ...] = LABELS, column: str = "amount") -> None:
        self.schema = InputSchema(columns=(Column(name=column, kind="numeric"),), labels=labels, threshold=0.5)
        self.asked: list[int] = []

    def predict(self, batch: Batch) -> Prediction:
        self.asked.append(len(batch))
        last = batch.numeric[:, 0]
        rest = np.repeat(((1 - last) / (len(self.schema.labels) - 1))[:, None], len(self.schema.labels) - 1, axis=1)
        probabilities = np.column_stack([rest, last]).astype(np.float32)
        return Prediction(probabilities, last, probabilities.argmax(axis=1).astype(np.int64))

    def smoke_inputs(self) -> list[list[Any]]:
        return []


def rows(n: int) -> pa.Table:
    return pa.table({"amount": np.linspace(0.01, 0.99, n), "label": ["ok", "fraud"] * (n // 2)})


def truth(table: pa.Table) -> Any:
    return truth_of(table.column("label").to_pylist(), LABELS)


def test_every_row_is_answered_once_and_in_order() -> None:
    table = rows(250)
    answers = measure(Echo(), table, truth(table), LABELS).answers
    assert answers.probabilities[:, 1] == pytest.approx(table.column("amount").to_numpy(), abs=1e-6)


@pytest.mark.parametrize("n", [2, 100, 250, 30_000])
def test_only_full_batches_are_timed_and_at_least_a_hundred(n: int) -> None:
    version, table = Echo(), rows(n)
    measured = measure(version, table, truth(table), LABELS)
    assert set(version.asked) == {100}
    assert measured.batches == max(100, n // 100)
    assert len(version.asked) == measured.batches + 1  # the first warms it up and is not timed


def test_a_slow_version_is_timed_for_no_longer_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1_000))  # each look at the clock is a second later, so each batch takes one
    monkeypatch.setattr("app.gate.measurement.perf_counter", lambda: float(next(seconds)))
    table = rows(400)
    measured = measure(Echo(), table, truth(table), LABELS)
    assert (measured.batches, measured.figures[LATENCY]) == (10, 1.0)


def test_labels_in_another_order_are_judged_as_the_candidates() -> None:
    table = rows(200)
    same, turned = (measure(Echo(labels), table, truth(table), LABELS) for labels in (LABELS, ("fraud", "ok")))
    assert turned.answers.probabilities == pytest.approx(1 - same.answers.probabilities, abs=1e-6)
    assert turned.figures["auc_roc"] == pytest.approx(1 - same.figures["auc_roc"])
    assert (turned.answers.predicted == 1 - same.answers.predicted).all()


def test_a_label_that_only_the_incumbent_knows_is_a_wrong_answer() -> None:
    table = rows(200)
    measured = measure(Echo(("ok", "fraud", "unsure")), table, truth(table), LABELS)
    assert measured.answers.probabilities.shape == (200, 2)
    assert set(measured.answers.predicted[150:].tolist()) == {-1}


@pytest.mark.parametrize(
    ("version", "why"),
    [
        (Echo(column="age"), "The rows do not fit the model: column 'age' is not in the data"),
        (Echo(labels=("ok", "chargeback")), "it does not know these labels of the candidate: fraud"),
    ],
)
def test_a_version_that_cannot_read_the_rows_says_why(version: Echo, why: str) -> None:
    table = rows(100)
    with pytest.raises(Unmeasurable) as caught:
        measure(version, table, truth(table), LABELS)
    assert str(caught.value) == why


def broken(answer: Callable[[Prediction], Prediction]) -> Echo:
    class Broken(Echo):
        def predict(self, batch: Batch) -> Prediction:
            return answer(super().predict(batch))

    return Broken()


def without_numbers(prediction: Prediction) -> Prediction:
    probabilities = prediction.probabilities.copy()
    probabilities[3] = np.nan
    return Prediction(probabilities, prediction.scores, prediction.indices)


def without_a_label(prediction: Prediction) -> Prediction:
    return Prediction(prediction.probabilities[:, :1], prediction.scores, prediction.indices)


def raising(prediction: Prediction) -> Prediction:
    raise RuntimeError("bad graph")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (without_numbers, "its answers to 2 of 200 rows are not finite numbers"),
        (without_a_label, "it answered (200, 1) probabilities to 200 rows"),
        (raising, "it cannot predict (RuntimeError: bad graph)"),
    ],
)
def test_a_version_that_answers_nonsense_is_unmeasurable(answer: Callable[[Prediction], Prediction], why: str) -> None:
    table = rows(200)
    with pytest.raises(Unmeasurable) as caught:
        measure(broken(answer), table, truth(table), LABELS)
    assert str(caught.value) == why


def test_an_empty_holdout_is_unmeasurable() -> None:
    with pytest.raises(Unmeasurable, match="no rows"):
        measure(Echo(), rows(0), truth(rows(0)), LABELS)


def test_labels_are_matched_by_value() -> None:
    assert truth_of([True, False, True], (0, 1)).tolist() == [1, 0, 1]
    assert truth_of([1.0, 0.0], (False, True)).tolist() == [1, 0]


def test_a_label_that_the_candidate_does_not_know_is_named() -> None:
    with pytest.raises(Unmeasurable, match=r"labels of the holdout: chargeback, 3, true$"):
        truth_of(["ok", "chargeback", "chargeback", 3, True], LABELS)
    with pytest.raises(Unmeasurable, match=r"a, b, c, d, e and 2 more$"):
        truth_of(list("abcdefg"), LABELS)
