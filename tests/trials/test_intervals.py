"""The intervals are those of their sources."""

import numpy as np
import pytest

from app.feedback.outcomes import Outcomes
from app.feedback.same_rows import SameRows
from app.trials.intervals import difference, f1, f1_difference, f1_difference_of_same_rows, phi, proportion
from app.trials.schemas import Estimate


def test_wilsons_interval() -> None:
    """Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    for k, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = proportion(k, n)
        assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def test_newcombes_interval_of_a_difference() -> None:
    """Newcombe (1998), Statistics in Medicine 17:873-890, table II, method 10."""
    for (a, m), (b, n), low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ):
        found = difference(proportion(a, m), proportion(b, n))
        assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def same(*cells: tuple[int, ...]) -> SameRows:
    return SameRows("y", ("no", "yes"), np.array(cells, np.int64).reshape(-1, 4), 0, 0)


def test_newcombes_interval_of_a_difference_of_pairs() -> None:
    """Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33:2850-2875, on Bentur et al.: 1, 1, 7, 12."""
    pairs = same((1, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 7), (1, 0, 0, 12))
    found = difference(proportion(2, 21), proportion(8, 21), phi(pairs))
    assert [found.value, found.low, found.high] == pytest.approx([-0.286, -0.507, -0.026], abs=1e-3)


def test_versions_that_are_right_and_wrong_together_are_told_apart_by_the_rows_where_they_are_not() -> None:
    pairs = same((1, 1, 1, 480), (1, 0, 0, 490), (1, 0, 1, 25), (0, 0, 1, 5))
    alone = difference(proportion(505, 1000), proportion(485, 1000))
    paired = difference(proportion(505, 1000), proportion(485, 1000), phi(pairs))
    assert alone.low is not None
    assert paired.low is not None
    assert alone.low < 0 < paired.low
    # Also where both always are, or nobody ever is.
    assert phi(same((1, 1, 1, 9))) == 0.0
    assert phi(same()) == 0.0


def test_the_intervals_of_differences_of_the_same_rows_cover_what_they_should() -> None:
    """Nominal 95 %: of 300 samples of a known truth at least 90 % of the intervals hold it, and they are narrower than
    those of independent rows."""
    random = np.random.default_rng(3)
    places = [(t, a, s) for t in (0, 1) for a in (0, 1) for s in (0, 1)]
    shares = np.array([0.45, 0.03, 0.02, 0.05, 0.06, 0.05, 0.02, 0.32])
    wanted = same(*((*place, round(share * 10_000)) for place, share in zip(places, shares, strict=True)))
    truth = f1_difference_of_same_rows(wanted).value, accuracy_of(wanted.standby) - accuracy_of(wanted.active)
    held, widths = np.zeros(2, np.int64), []
    for _ in range(300):
        drawn = same(*((*place, n) for place, n in zip(places, random.multinomial(400, shares), strict=True)))
        old, new = (proportion(int(np.trace(arm.confusion)), 400) for arm in (drawn.active, drawn.standby))
        found = f1_difference_of_same_rows(drawn), difference(new, old, phi(drawn))
        held += [holds(each, value) for each, value in zip(found, truth, strict=True)]
        alone = f1_difference(drawn.standby.confusion, drawn.active.confusion), difference(new, old)
        widths.append([width(each) / width(one) for each, one in zip(found, alone, strict=True)])
    assert (held >= 270).all()
    assert (np.mean(widths, axis=0) < 0.9).all()


def holds(found: Estimate, value: float | None) -> bool:
    assert found.low is not None
    assert found.high is not None
    assert value is not None
    return found.low <= value <= found.high


def width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def accuracy_of(told: Outcomes) -> float:
    return float(np.trace(told.confusion) / told.n)


def test_a_label_that_the_version_should_not_have_given_counts_against_the_truth_alone() -> None:
    """F1 of (k, k + 1): the last column is of no label."""
    assert f1(np.array([[5, 0, 1], [0, 3, 3]])).value == pytest.approx(2 * 3 / (6 + 3))


def test_f1_is_that_of_the_positive_label_with_two_and_the_mean_with_more() -> None:
    assert f1(np.array([[50, 10], [20, 20]])).value == pytest.approx(2 * 20 / (30 + 40))
    assert f1(np.eye(3, dtype=np.int64)).value == 1.0
    assert f1(np.zeros((2, 2), np.int64)).value is None


def test_the_interval_of_f1_covers_what_it_should() -> None:
    """Nominal 95 %: of 200 samples of a known truth at least 90 % of the intervals hold it."""
    random = np.random.default_rng(7)
    truth = np.array([[0.5, 0.1], [0.1, 0.3]])
    wanted = 2 * 0.3 / (0.4 + 0.4)
    held = 0
    for _ in range(200):
        found = f1(random.multinomial(300, truth.ravel()).reshape(2, 2))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= wanted <= found.high
    assert held >= 180


def test_versions_that_know_different_labels_are_not_compared() -> None:
    assert f1_difference(np.eye(3, dtype=np.int64), np.eye(2, dtype=np.int64)).value is None
