"""Drift that knows how few rows it was measured on."""

import numpy as np
import pytest

from app.monitoring.psi import Shift, aggregate, shift

REFERENCE = np.full(10, 3_000)


def drawn(rng: np.random.Generator, rows: int) -> Shift:
    return shift(rng.multinomial(30_000, [0.1] * 10), rng.multinomial(rows, [0.1] * 10))


@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_without_drift_the_excess_is_nothing_on_average_however_small_the_sample(rows: int) -> None:
    rng = np.random.default_rng(rows)
    found = [drawn(rng, rows) for _ in range(400)]
    assert np.mean([each.psi for each in found]) == pytest.approx(9 * (1 / rows + 1 / 30_000), rel=0.1)
    assert abs(np.mean([each.excess for each in found])) < 0.1 * np.mean([each.psi for each in found])


def test_chance_alone_is_hardly_ever_beyond_any_limit() -> None:
    rng = np.random.default_rng(0)
    assert sum(drawn(rng, 200).is_beyond(0.0) for _ in range(1_000)) <= 6


def test_a_shift_is_found_in_a_small_sample_and_in_a_large_one() -> None:
    moved = np.array([2, 3, 4, 5, 6, 10, 15, 20, 40, 95])
    assert shift(REFERENCE, moved).is_beyond(0.3)
    assert shift(REFERENCE, moved * 50).is_beyond(0.3)


def test_the_aggregate_is_the_mean_over_the_columns_and_a_still_one_takes_nothing_from_the_others() -> None:
    still, moved = shift(REFERENCE, REFERENCE), Shift(1.0, 0.9, 0.1)
    assert still.excess < 0
    assert aggregate({"a": still, "b": moved, "c": moved}).excess == pytest.approx(0.9 * 2 / 3)


def test_a_bin_that_is_empty_on_one_side_is_finite_and_on_both_sides_nothing() -> None:
    assert np.isfinite(shift(np.array([100, 0]), np.array([0, 100])).psi)
    assert shift(np.array([100, 100, 0]), np.array([100, 100, 0])) == shift(np.array([100, 100]), np.array([100, 100]))


def test_nothing_to_compare_is_no_drift() -> None:
    assert not shift(REFERENCE, np.zeros(10, np.int64)).is_beyond(0.0)
    assert not aggregate({}).is_beyond(0.0)
