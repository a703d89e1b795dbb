"""How sure a difference is: as often right as it says, and never of what few rows cannot show."""

import numpy as np
import pytest

from app.evaluation.bootstrap import Sample, replicates
from app.evaluation.metrics import Floats, mean_of, metric, perplexity_of
from app.gate.bootstrap import percentiles


def interval(name: str, mine: Floats, theirs: Floats | None, confidence: float = 0.9) -> tuple[float, float]:
    sample = Sample(metric(name), mine, theirs, np.arange(len(mine)))
    found = replicates({0: sample}, len(mine), resamples=400, seed=1)[0]
    return percentiles(found, confidence)


def values(shares: Floats) -> Floats:
    return mean_of(shares.tolist()).statistics


@pytest.mark.parametrize("rows", [50, 200])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(rows: int) -> None:
    rng, held, trials = np.random.default_rng(5), 0, 300
    for _ in range(trials):
        hardness = rng.random(rows)
        mine, theirs = (np.clip(hardness + rng.normal(shift, 0.2, rows), 0, 1) for shift in (0.05, 0.0))
        low, high = interval("token_f1", values(mine), values(theirs))
        held += low <= 0.0419 <= high  # what clipping leaves of 0.05
    assert 0.87 <= held / trials <= 0.99


def test_equal_answers_differ_by_nothing_and_equal_figures_may_differ() -> None:
    right = values(np.ones(50))
    assert interval("exact_match", right, right) == (0.0, 0.0)
    swapped = values(np.r_[0.0, np.ones(49)]), values(np.r_[np.ones(49), 0.0])
    low, high = interval("exact_match", *swapped)
    assert low < -0.01 < 0.01 < high


def test_no_loss_in_fifty_rows_excludes_no_loss_of_one_in_fifty() -> None:
    """The candidate's figure alone, too: all right is not surely all right."""
    low, _ = interval("exact_match", values(np.ones(50)), None)
    assert low < 0.98


def test_perplexity_is_compared_by_tokens() -> None:
    rng = np.random.default_rng(3)
    nats = rng.gamma(5, 1, 80)
    mine, theirs = (perplexity_of([(each * part, 5) for each in nats]).statistics for part in (0.9, 1.0))
    low, high = interval("perplexity", mine, theirs)
    assert high < 0
    assert low > -1


def test_resamples_are_the_same_for_every_metric_and_again() -> None:
    shares = np.random.default_rng(2).random(60)
    first, second = (
        replicates(
            {n: Sample(metric("token_f1"), values(shares), None, np.arange(60)) for n in "ab"},
            60,
            resamples=200,
            seed=9,
        )
        for _ in range(2)
    )
    assert np.array_equal(first["a"], first["b"])
    assert np.array_equal(first["a"], second["b"])
