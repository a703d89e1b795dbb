"""The intervals are those of their sources."""

import numpy as np
import pytest

from app.trials.intervals import difference, f1, f1_difference, proportion


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
