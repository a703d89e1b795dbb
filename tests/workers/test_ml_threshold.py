"""The decision threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gate.criteria import DEFAULT_CRITERIA, Criterion
from workers.ml.threshold import Threshold, choose


def choice(scores: list[float], positive: list[int], **floors: float) -> Threshold:
    requirements = {name: Criterion(min=floor) for name, floor in floors.items()}
    return choose(np.array(scores, np.float32), np.array(positive, bool), requirements)


SCORES = [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.4, 0.3]
POSITIVE = [1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 0, 1]


def test_without_floors_the_best_f1_decides_halfway_between_two_scores() -> None:
    chosen = choice(SCORES, POSITIVE)
    assert chosen.value == pytest.approx(0.525)
    assert [chosen.precision, chosen.recall] == pytest.approx([7 / 9, 7 / 8])


def test_a_floor_under_precision_raises_the_threshold() -> None:
    chosen = choice(SCORES, POSITIVE, precision=0.85)
    assert chosen.value == pytest.approx(0.775)
    assert chosen.precision == 1


def test_two_floors_share_the_room_between_them() -> None:
    chosen = choice(SCORES, POSITIVE, precision=0.83, recall=0.7)
    assert [chosen.precision, chosen.recall] == pytest.approx([6 / 7, 6 / 8])


def test_room_enough_leaves_the_choice_to_f1() -> None:
    assert choice(SCORES, POSITIVE, precision=0.7) == choice(SCORES, POSITIVE)


def test_between_neighbouring_floats_the_threshold_is_the_upper_score() -> None:
    lower, upper = 0.5, float(np.nextafter(np.float32(0.5), np.float32(1)))
    chosen = choice([upper, lower], [1, 0])
    assert (chosen.value, chosen.precision) == (upper, 1)


def test_floors_out_of_reach_are_missed_by_as_little_as_possible() -> None:
    chosen = choice([0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1], precision=0.9, recall=0.9)
    assert (chosen.precision, chosen.recall) == (0.5, 1.0)


def test_bounds_on_other_metrics_and_on_drops_do_not_move_it() -> None:
    requirements = {**DEFAULT_CRITERIA, "precision": Criterion(max_drop=0.1)}
    del requirements["recall"]
    chosen = choose(np.array(SCORES, np.float32), np.array(POSITIVE, bool), requirements)
    assert chosen == choice(SCORES, POSITIVE)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_its_figures_are_those_of_the_rule_score_at_least_threshold(rows: list[tuple[float, bool]]) -> None:
    rows.append((0.5, True))
    scores, positive = np.array([s for s, _ in rows], np.float32), np.array([p for _, p in rows])
    chosen = choose(scores, positive, DEFAULT_CRITERIA)
    predicted = scores >= chosen.value
    assert chosen.precision == pytest.approx((predicted & positive).sum() / predicted.sum())
    assert chosen.recall == pytest.approx((predicted & positive).sum() / positive.sum())
    assert np.float32(chosen.value) == chosen.value
