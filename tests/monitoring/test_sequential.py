"""Tests that may be looked at as often as one likes."""

import math

import numpy as np
import pytest

from app.monitoring import sequential

ALPHA = 0.05
NEEDED = math.log(1 / ALPHA)


def ever(rng: np.random.Generator, truth: float, promised: float, rows: int = 2_000) -> bool:
    """Whether a test that looks after every tenth row ever establishes that a share is below what was promised."""
    hits = np.cumsum(rng.random(rows) < truth)
    return any(sequential.share_at_least(promised, int(hits[n - 1]), n) >= NEEDED for n in range(10, rows + 1, 10))


def test_a_promise_that_is_kept_is_called_broken_less_often_than_declared_however_often_one_looks() -> None:
    rng = np.random.default_rng(1)
    assert np.mean([ever(rng, 0.6, 0.6) for _ in range(200)]) <= ALPHA


def test_a_promise_that_is_broken_is_found_out() -> None:
    rng = np.random.default_rng(2)
    assert np.mean([ever(rng, 0.5, 0.6) for _ in range(50)]) >= 0.95


def test_more_of_the_same_breach_is_more_evidence() -> None:
    found = [sequential.share_at_least(0.6, n // 2, n) for n in (10, 100, 1_000)]
    assert found == sorted(found)
    assert found[-1] > NEEDED


def test_rates_are_tested_from_both_sides() -> None:
    assert sequential.share_at_most(0.01, 30, 1_000) > NEEDED
    assert sequential.share_at_most(0.01, 10, 1_000) < NEEDED


def test_f1_is_tested_as_the_ratio_that_it_is() -> None:
    """F1 of 80 true positives and 40 errors is 160 / 200 = .8."""
    assert sequential.f1_at_least(0.8, 800, 400) < 0
    assert sequential.f1_at_least(0.9, 800, 400) > NEEDED


@pytest.mark.parametrize("rows", [200, 2_000])
def test_the_distribution_of_a_sample_stays_within_its_radius_whenever_one_looks(rows: int) -> None:
    rng = np.random.default_rng(3)
    strayed = 0
    for _ in range(200):
        counts = np.cumsum(rng.multinomial(1, [0.1] * 10, size=rows), axis=0)
        strayed += any(
            sequential.deviation([1] * 10, counts[n - 1].tolist()) > sequential.radius(n, ALPHA)
            for n in range(10, rows + 1, 50)
        )
    assert strayed / 200 <= ALPHA


def test_a_bound_of_f1_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    # Of rows that are positive or given so, .8 are both: F1 is 2 * .8 / 1.8.
    truth = 1.6 / 1.8
    hits = rng.binomial(500, 0.8, size=2_000)
    held = np.mean([sequential.f1_lower_bound(int(h), 500 - int(h), 0.05) <= truth for h in hits])
    assert held >= 0.94


def test_no_rows_bound_nothing() -> None:
    assert (sequential.share_lower_bound(0, 0, 0.05), sequential.share_upper_bound(0, 0, 0.05)) == (0.0, 1.0)
    assert sequential.radius(0, 0.05) == 1.0
