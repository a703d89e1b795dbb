"""Measuring one version: which rows it is asked, in whose labels it is judged, and when it cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.gate.criteria import LATENCY
from app.gate.measurement import Measured, Unmeasurable, answer, measure, truth_of
from app.runtimes import Batch, Prediction, Predictor
from app.runtimes.schema import Column, Head, InputSchema, Label

LABELS: tuple[Label, ...] = ("ok", "fraud")


class Echo:
    """Answers with its numeric column as the probability of its last label, and records what it was asked."""

    is_quick = True

    def __init__(self, labels: tuple[Label, ...] = LABELS, column: str = "amount") -> None:
        head = Head(name="label", labels=labels, threshold=0.5)
        self.schema = InputSchema(columns=(Column(name=column, kind="numeric"),), heads=(head,))
        self.asked: list[int] = []

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        self.asked.append(len(batch))
        last, others = batch.numeric[:, 0], len(self.schema.heads[0].labels) - 1
        rest = np.repeat(((1 - last) / others)[:, None], others, axis=1)
        probabilities = np.column_stack([rest, last]).astype(np.float32)
        return (Prediction(probabilities, last, probabilities.argmax(axis=1).astype(np.int64)),)

    def smoke_inputs(self) -> list[Any]:
        return []


def rows(n: int) -> pa.Table:
    return pa.table({"amount": np.linspace(0.01, 0.99, n), "label": ["ok", "fraud"] * (n // 2)})


def measured(version: Predictor, table: pa.Table) -> Measured:
    """All rows, in the labels of the candidate."""
    truth = truth_of(table.column("label").to_pylist(), LABELS)
    return measure(answer(version, table), "label", np.arange(table.num_rows), truth, LABELS)


def test_every_row_is_answered_once_and_in_order() -> None:
    table = rows(250)
    answers = measured(Echo(), table).answers
    assert answers.probabilities[:, 1] == pytest.approx(table.column("amount").to_numpy(), abs=1e-6)


@pytest.mark.parametrize("n", [2, 100, 250, 30_000])
def test_only_full_batches_are_timed_and_at_least_a_hundred(n: int) -> None:
    version, table = Echo(), rows(n)
    found = measured(version, table)
    assert set(version.asked) == {100}
    assert found.batches == max(100, n // 100)
    assert len(version.asked) == found.batches + 1  # the first warms it up and is not timed


def test_a_slow_version_is_timed_for_no_longer_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1_000))  # each look at the clock is a second later, so each batch takes one
    monkeypatch.setattr("app.gate.measurement.perf_counter", lambda: float(next(seconds)))
    table = rows(400)
    found = measured(Echo(), table)
    assert (found.batches, found.figures[LATENCY]) == (10, 1.0)


def test_labels_in_another_order_are_judged_as_the_candidates() -> None:
    table = rows(200)
    same, turned = (measured(Echo(labels), table) for labels in (LABELS, ("fraud", "ok")))
    assert turned.answers.probabilities == pytest.approx(1 - same.answers.probabilities, abs=1e-6)
    assert turned.figures["auc_roc"] == pytest.approx(1 - same.figures["auc_roc"])
    assert (turned.answers.predicted == 1 - same.answers.predicted).all()


def test_a_label_that_only_the_incumbent_knows_is_a_wrong_answer() -> None:
    table = rows(200)
    found = measured(Echo(("ok", "fraud", "unsure")), table)
    assert found.answers.probabilities.shape == (200, 2)
    assert set(found.answers.predicted[150:].tolist()) == {-1}


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
        measured(version, table)
    assert str(caught.value) == why


def broken(spoil: Callable[[Prediction], Prediction]) -> Echo:
    class Broken(Echo):
        def predict(self, batch: Batch) -> tuple[Prediction, ...]:
            return (spoil(super().predict(batch)[0]),)

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
    ("spoil", "why"),
    [
        (without_numbers, "its answers to 2 of 200 rows are not finite numbers"),
        (without_a_label, "it answered (200, 1) probabilities to 200 rows"),
        (raising, "it cannot predict (RuntimeError: bad graph)"),
    ],
)
def test_a_version_that_answers_nonsense_is_unmeasurable(spoil: Callable[[Prediction], Prediction], why: str) -> None:
    table = rows(200)
    with pytest.raises(Unmeasurable) as caught:
        measured(broken(spoil), table)
    assert str(caught.value) == why


def test_an_empty_holdout_is_unmeasurable() -> None:
    with pytest.raises(Unmeasurable, match="no rows"):
        measured(Echo(), rows(0))


def test_labels_are_matched_by_value() -> None:
    assert truth_of([True, False, True], (0, 1)).tolist() == [1, 0, 1]
    assert truth_of([1.0, 0.0], (False, True)).tolist() == [1, 0]


def test_a_label_that_the_candidate_does_not_know_is_named() -> None:
    with pytest.raises(Unmeasurable, match=r"labels of the holdout: chargeback, 3, true$"):
        truth_of(["ok", "chargeback", "chargeback", 3, True], LABELS)
    with pytest.raises(Unmeasurable, match=r"a, b, c, d, e and 2 more$"):
        truth_of(list("abcdefg"), LABELS)
