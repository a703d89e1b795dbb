from collections import Counter
from typing import Any

import pytest

from workers.llm.curriculum import THERAPEUTIC, Order, apportioned, arrange
from workers.llm.params import Curriculum
from workers.pipeline import PipelineError

STAGES = [{"name": "easy", "share": 0.5}, {"name": "hard", "values": ["hard", "harder"], "share": 0.5}]
COLUMN = ["hard", "easy", "Easy", "harder", "odd", "easy"]


def order(lengths: list[int], column: list[Any] | None = None, seed: int = 1, **wanted: Any) -> Order:
    said: list[str] = []
    made = arrange(Curriculum(**wanted), lengths, column, lambda places: [-float(p) for p in places], seed, said.append)
    assert made is not None
    return made


def test_length_and_loss_put_easy_rows_first() -> None:
    assert order([5, 3, 9, 3], strategy="length").places == [1, 3, 0, 2]
    assert order([5, 3, 9, 3], strategy="loss").places == [3, 2, 1, 0]
    assert not order([1], strategy="loss").shuffled


def test_no_curriculum_leaves_the_order_to_the_trainer() -> None:
    assert arrange(Curriculum(), [1, 2], None, lambda _: [], 1, lambda _: None) is None


def test_stages_come_in_their_order_and_rows_of_no_stage_are_left_out_and_told() -> None:
    said: list[str] = []
    wanted = Curriculum.model_validate({"strategy": "staged", "stages": STAGES})
    made = arrange(wanted, [1] * 6, COLUMN, lambda _: [], 1, said.append)
    assert made == Order([[1, 2, 5], [0, 3]], ["easy", "hard"], shuffled=True)
    assert any("1 rows are of no stage" in line and "'odd'" in line for line in said)


def test_a_column_that_is_not_there_or_fits_no_stage_is_refused() -> None:
    with pytest.raises(PipelineError, match="not in the data version"):
        order([1], None, strategy="therapeutic")
    with pytest.raises(PipelineError, match="'weather'") as refusal:
        order([1], ["weather"], strategy="therapeutic")
    assert refusal.value.code == "curriculum_mismatch"


def test_a_target_takes_each_stages_share_and_the_same_rows_again() -> None:
    column = ["easy"] * 30 + ["hard"] * 10
    wanted: dict[str, Any] = {"strategy": "staged", "stages": STAGES, "target_dataset_size": 16}
    first = order([1] * 40, column, **wanted)
    assert [len(group) for group in first.groups] == [8, 8]
    assert first == order([1] * 40, column, **wanted)
    assert first != order([1] * 40, column, seed=2, **wanted)


def test_a_sample_without_stages_keeps_the_proportions_of_the_column() -> None:
    column = ["a"] * 30 + ["b"] * 10
    places = order([1] * 40, column, target_dataset_size=20).places
    assert Counter(column[place] for place in places) == {"a": 15, "b": 5}


def test_apportioned_rows_are_the_target_to_the_row() -> None:
    assert apportioned([1, 1, 1], 10) == [4, 3, 3]
    assert apportioned([0.15, 0.30, 0.15, 0.25, 0.15], 2500) == [375, 750, 375, 625, 375]
    assert sum(stage.share or 0 for stage in THERAPEUTIC) == pytest.approx(1)
