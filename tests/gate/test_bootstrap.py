"""The bootstrap by weights against the one that draws rows."""

import time

import numpy as np
import pytest

from app.gate.bootstrap import (
    CHUNK_WEIGHTS,
    Sample,
    paired_intervals,
    paired_replicates,
    percentiles,
    resampled_weights,
    simultaneous,
)
from app.gate.metrics import COUNTED, METRICS, Measure, point_estimates
from app.gate.tally import Answers, Integers, Tally


def answers_of(truth: Integers, skill: float, seed: int) -> Answers:
    noise = np.random.default_rng(seed).normal(size=len(truth))
    scores = 1 / (1 + np.exp(-(noise + skill * (2 * truth - 1))))
    return Answers(truth, (scores >= 0.5).astype(np.int64), np.column_stack([1 - scores, scores]))


def truth_of(n: int, positives: int) -> Integers:
    return np.repeat(np.array([1, 0]), [positives, n - positives])


def intervals(candidate: Answers, incumbent: Answers, *names: str, seed: int = 7) -> dict[str, tuple[float, float]]:
    return paired_intervals(names or tuple(METRICS), candidate, incumbent, resamples=2_000, confidence=0.95, seed=seed)


def resampled(answers: Answers, rows: Integers) -> dict[str, float]:
    return point_estimates(Answers(answers.truth[rows], answers.predicted[rows], answers.probabilities[rows]))


def test_it_agrees_with_drawing_rows_one_resample_at_a_time() -> None:
    truth = truth_of(400, 150)
    candidate, incumbent = answers_of(truth, 1.2, 1), answers_of(truth, 0.9, 2)
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(1_500):
        rows = np.concatenate([rng.choice(np.flatnonzero(truth == c), (truth == c).sum()) for c in (0, 1)])
        mine, theirs = resampled(candidate, rows), resampled(incumbent, rows)
        differences.append([mine[name] - theirs[name] for name in METRICS])
    low, high = np.quantile(differences, [0.025, 0.975], axis=0)
    # The 2.5% quantile of so many draws has a standard error of 0.07 standard deviations.
    tolerance = 0.3 * np.std(differences, axis=0)
    found = np.array(list(intervals(candidate, incumbent).values()))
    assert (np.abs(found - np.column_stack([low, high])) < tolerance[:, None]).all()


def test_every_resample_has_as_many_rows_of_each_label_as_there_are() -> None:
    truth = truth_of(50, 12)
    weights = np.concatenate(list(resampled_weights(truth, 300, seed=1)))
    assert weights.shape == (300, 50)
    assert (weights[:, truth == 1].sum(axis=1) == 12).all()
    assert (weights[:, truth == 0].sum(axis=1) == 38).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.3)


def test_chunks_add_up_to_the_resamples_asked_for() -> None:
    n = CHUNK_WEIGHTS // 60
    assert [len(chunk) for chunk in resampled_weights(truth_of(n, n // 2), 200, seed=1)] == [60, 60, 60, 20]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    truth = truth_of(200, 80)
    candidate, incumbent = answers_of(truth, 1.0, 1), answers_of(truth, 1.0, 2)
    assert intervals(candidate, incumbent) == intervals(candidate, incumbent)
    assert intervals(candidate, incumbent, seed=8) != intervals(candidate, incumbent, seed=7)


def test_a_version_against_itself_differs_by_nothing() -> None:
    answers = answers_of(truth_of(200, 50), 1.0, 1)
    assert set(intervals(answers, answers).values()) == {(0.0, 0.0)}


def test_pairing_makes_the_interval_of_like_versions_narrow() -> None:
    truth = truth_of(400, 200)
    incumbent = answers_of(truth, 1.0, 1)
    flipped = incumbent.predicted.copy()
    flipped[:4] = 1 - flipped[:4]
    low, high = intervals(Answers(truth, flipped, incumbent.probabilities), incumbent, "accuracy")["accuracy"]
    assert high - low < 0.03  # two versions drawn apart from each other would differ by about 0.1


def test_rows_that_no_figure_tells_apart_may_be_drawn_together() -> None:
    """The same distribution as drawing them one by one: an area among the figures makes it do so."""
    truth = truth_of(4_000, 1_000)
    candidate, incumbent = answers_of(truth, 1.2, 1), answers_of(truth, 1.0, 2)
    third = np.arange(0, 4_000, 3)
    samples = {name: Sample(Measure(name), third if name in ("f1", "recall") else None) for name in COUNTED}
    one_by_one = samples | {"auc_roc": Sample(Measure("auc_roc"))}
    together, apart = (
        paired_replicates(asked, candidate, incumbent, resamples=4_000, seed=3) for asked in (samples, one_by_one)
    )
    for name in samples:
        assert together[name].mean() == pytest.approx(apart[name].mean(), abs=0.1 * apart[name].std())
        assert together[name].std() == pytest.approx(apart[name].std(), rel=0.06)


@pytest.mark.parametrize(("n", "positives"), [(1_000, 30), (1_000, 500), (4_000, 100)])
def test_an_area_to_the_first_order_has_the_same_interval(n: int, positives: int) -> None:
    truth = truth_of(n, positives)
    pair = answers_of(truth, 1.2, 1), answers_of(truth, 1.0, 2)
    exact, first_order = [], []
    for weights in resampled_weights(truth, 1_000, seed=1):
        mine, theirs = (Tally(answers, weights) for answers in pair)
        exact.append(METRICS["auc_roc"](mine) - METRICS["auc_roc"](theirs))
        first_order.append(Measure("auc_roc").quickly(mine) - Measure("auc_roc").quickly(theirs))
    exact_ends, ends = (np.array(percentiles(np.concatenate(found), 0.95)) for found in (exact, first_order))
    assert np.abs(exact_ends - ends).max() < 0.05 * (exact_ends[1] - exact_ends[0])


def test_where_no_loss_is_seen_there_may_be_one_in_three_over_n() -> None:
    truth = truth_of(500, 25)
    same = truth.copy()
    candidate = Answers(truth, same, np.column_stack([1 - truth, truth]) * 0.8 + 0.1)
    incumbent = Answers(truth, same, np.column_stack([1 - truth, truth]) * 0.7 + 0.15)
    low, high = intervals(candidate, incumbent, "recall")["recall"]
    assert low == pytest.approx(-3 / 25, abs=0.03)
    assert high == pytest.approx(3 / 25, abs=0.03)


def test_intervals_that_hold_at_once_hold_at_once() -> None:
    """Of 20 differences that are all nothing, the intervals leave one out in as many cases as was asked for."""
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(400):
        deltas = rng.normal(size=20)
        replicates = {i: delta + rng.normal(size=500) for i, delta in enumerate(deltas)}
        found = simultaneous(dict(enumerate(deltas.tolist())), replicates, 0.95)
        missed += any(low > 0 or high < 0 for low, high in found.values())
    assert missed / 400 == pytest.approx(0.05, abs=0.035)


def test_one_interval_alone_needs_no_widening_and_no_spread_is_no_width() -> None:
    replicates = {"a": np.random.default_rng(1).normal(0.1, 0.02, 4_000), "b": np.zeros(4_000)}
    low, high = simultaneous({"a": 0.1}, replicates, 0.95)["a"]
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.02, 0.1 + 1.96 * 0.02), abs=0.002)
    assert simultaneous({"b": 0.0}, replicates, 0.95) == {"b": (0.0, 0.0)}


def test_two_thousand_resamples_of_ten_thousand_rows_take_about_a_second() -> None:
    truth = truth_of(10_000, 5_000)
    candidate, incumbent = answers_of(truth, 1.1, 1), answers_of(truth, 1.0, 2)
    started = time.process_time()
    intervals(candidate, incumbent)
    assert time.process_time() - started < 5  # one second on an idle core; room for a busy one
