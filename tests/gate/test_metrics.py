"""Every metric against scikit-learn's, plain and with row weights."""

from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from app.gate.measurement import nearest_rank
from app.gate.metrics import METRICS, point_estimates
from app.gate.tally import Answers, Floats, Tally

Expected = Callable[[Answers, Floats], float]


def answers_of(seed: int, n: int, k: int, decimals: int = 2) -> Answers:
    """Noisy answers with every label in the truth, and with ties where `decimals` are few."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    logits = rng.normal(size=(n, k)) + np.eye(k)[truth]
    exponentials = np.exp(np.round(logits, decimals))
    probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answers(truth, probabilities.argmax(axis=1), probabilities.astype(np.float64))


def by_label(metric: Callable[..., float]) -> Expected:
    def expected(a: Answers, weights: Floats) -> float:
        k = a.probabilities.shape[1]
        average = "binary" if k == 2 else "macro"
        return metric(a.truth, a.predicted, average=average, sample_weight=weights, zero_division=0)

    return expected


def area(a: Answers, weights: Floats) -> float:
    k = a.probabilities.shape[1]
    one_against_rest = [
        reference.roc_auc_score(a.truth == label, a.probabilities[:, label], sample_weight=weights)
        for label in ([1] if k == 2 else range(k))
    ]
    return float(np.mean(one_against_rest))


def log_loss(a: Answers, weights: Floats) -> float:
    k = a.probabilities.shape[1]
    narrow = a.probabilities.astype(np.float32)
    return float(reference.log_loss(a.truth, narrow, sample_weight=weights, labels=range(k)))


def brier(a: Answers, weights: Floats) -> float:
    k = a.probabilities.shape[1]
    scores = a.probabilities[:, 1] if k == 2 else a.probabilities / a.probabilities.sum(axis=1, keepdims=True)
    return float(reference.brier_score_loss(a.truth, scores, sample_weight=weights))


EXPECTED: dict[str, Expected] = {
    "f1": by_label(reference.f1_score),
    "precision": by_label(reference.precision_score),
    "recall": by_label(reference.recall_score),
    "auc_roc": area,
    "accuracy": lambda a, w: reference.accuracy_score(a.truth, a.predicted, sample_weight=w),
    "balanced_accuracy": lambda a, w: reference.balanced_accuracy_score(a.truth, a.predicted, sample_weight=w),
    "log_loss": log_loss,
    "brier": brier,
}


def test_every_metric_has_its_reference() -> None:
    assert EXPECTED.keys() == METRICS.keys()


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_scikit_learns_plain_and_weighted(name: str, k: int) -> None:
    for seed, decimals in ((1, 6), (2, 0)):
        answers = answers_of(seed, 400, k, decimals)
        weights = np.random.default_rng(seed).integers(1, 4, size=(3, 400)).astype(np.float64)
        measured = METRICS[name](Tally(answers, weights))
        assert point_estimates(answers)[name] == pytest.approx(EXPECTED[name](answers, np.ones(400)), abs=1e-6)
        assert measured == pytest.approx([EXPECTED[name](answers, row) for row in weights], abs=1e-6)


def test_the_area_for_several_labels_is_scikit_learns_one_against_the_rest() -> None:
    answers = answers_of(3, 300, 4)
    expected = reference.roc_auc_score(answers.truth, answers.probabilities, multi_class="ovr", average="macro")
    assert point_estimates(answers)["auc_roc"] == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_weighing_a_row_twice_is_having_it_twice(seed: int, k: int) -> None:
    answers = answers_of(seed, 30, k, decimals=1)
    counts = np.random.default_rng(seed).integers(1, 4, size=30)
    rows = np.repeat(np.arange(30), counts)
    repeated = Answers(answers.truth[rows], answers.predicted[rows], answers.probabilities[rows])
    weighted = Tally(answers, counts[None, :].astype(np.float64))
    for name, value in point_estimates(repeated).items():
        assert METRICS[name](weighted)[0] == pytest.approx(value, abs=1e-12)


def test_a_share_of_nothing_is_zero() -> None:
    never_positive = Answers(np.array([0, 1, 1]), np.array([0, 0, 0]), np.tile([0.9, 0.1], (3, 1)))
    figures = point_estimates(never_positive)
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0, 0, 0)


def test_an_area_without_rows_of_both_kinds_is_not_a_number() -> None:
    one_kind = Answers(np.array([1, 1]), np.array([1, 1]), np.tile([0.1, 0.9], (2, 1)))
    assert np.isnan(point_estimates(one_kind)["auc_roc"])


def test_a_label_outside_the_candidates_is_a_miss_and_no_false_alarm_of_another() -> None:
    probabilities = np.full((4, 2), 0.5)
    answers = Answers(np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1]), probabilities)
    figures = point_estimates(answers)
    assert (figures["accuracy"], figures["precision"], figures["recall"]) == (0.5, 1.0, 0.5)


def test_a_certain_and_wrong_answer_has_a_finite_loss() -> None:
    wrong = Answers(np.array([0, 1]), np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert 7 < point_estimates(wrong)["log_loss"] < 8


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (50, 50), (99, 99), (100, 99), (101, 100), (1000, 990)])
def test_the_p99_is_the_nearest_rank(n: int, rank: int) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, n + 1)).tolist()
    assert nearest_rank(shuffled, 0.99) == rank
