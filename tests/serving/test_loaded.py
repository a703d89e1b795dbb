"""What a version must show on the very process that is to answer with it."""

from typing import Any

import numpy as np
import pytest

from app.runtimes import Batch, Prediction
from app.serving.loaded import smoke_test
from tests.artifacts import SCHEMA


class Always:
    """Answers every row with the same score."""

    schema = SCHEMA
    is_quick = True

    def __init__(self, score: float) -> None:
        self._score = score

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        scores = np.full(len(batch), self._score, np.float32)
        return (Prediction(np.stack([1 - scores, scores], axis=1), scores, np.zeros(len(batch), np.int64)),)

    def smoke_inputs(self) -> list[Any]:
        return [[0.0, 0.0]] * 10


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_scores_from_zero_to_one_are_sound(score: float) -> None:
    assert smoke_test(Always(score), p99_limit=60)["passed"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_score_that_is_not_from_zero_to_one_is_not_sound(score: float) -> None:
    smoke = smoke_test(Always(score), p99_limit=60)
    assert (smoke["passed"], smoke["reason"]) == (False, "10 of 10 smoke scores are not in [0, 1]")


def test_a_version_slower_than_its_limit_is_not_sound() -> None:
    smoke = smoke_test(Always(0.5), p99_limit=0.0)
    assert not smoke["passed"]
    assert smoke["reason"].startswith("smoke p99 is 0.")
