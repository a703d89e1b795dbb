"""The gate on versions whose truth is known: `python -m benchmarks.decisions.gate 1000` has the figures."""

import pytest

from benchmarks.decisions.gate import EQUAL, EQUAL_SLICED, RARE, UNLIKE, WORSE_IN_ONE, Case, verdicts


@pytest.mark.parametrize("case", [RARE, UNLIKE])
def test_hardly_any_candidate_that_is_worse_by_twice_the_margin_passes_on_few_positive_rows(case: Case) -> None:
    assert verdicts(case, 500, 100)["pass"] <= 2


def test_an_equal_candidate_is_not_refused_for_being_looked_at_in_ten_slices() -> None:
    assert verdicts(EQUAL_SLICED, 2_000, 40)["fail"] <= verdicts(EQUAL, 2_000, 40)["fail"] + 2


def test_a_gain_on_average_that_one_slice_pays_for_fails() -> None:
    assert verdicts(WORSE_IN_ONE, 10_000, 20)["fail"] == 20
