"""Rows that say the same: what is merged, what is dropped, and that no near pair stands on two sides of the split."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data import duplicates
from app.data.columns import SPLIT
from app.data.sources import SourceOptions, options_of
from app.data.texts import Settled

OPTIONS = {"source": "samples", "label": "y", "text": {"columns": ["text"]}}
LONG = "how do i activate the new card that came in the post this morning"


def options(**more: Any) -> SourceOptions:
    return options_of(OPTIONS | more)


def settled(*rows: tuple[str, Any, str], **more: Any) -> tuple[list[tuple[str, Any, str]], Settled]:
    texts, labels, sides = zip(*rows, strict=True)
    table = pa.table({"y": list(labels), "text": list(texts), SPLIT: list(sides)})
    found, told = duplicates.settle(table, options(**more))
    return list(zip(*(found[name].to_pylist() for name in ("text", "y", SPLIT)), strict=True)), told


def test_equal_texts_with_equal_labels_become_the_one_that_is_held_out() -> None:
    rows, told = settled(("Lost card!", "lost", "train"), ("lost  CARD", "lost", "holdout"), ("top up", "top", "train"))
    assert rows == [("lost  CARD", "lost", "holdout"), ("top up", "top", "train")]
    assert told == Settled(merged=1)


def test_a_row_that_was_ever_held_out_is_not_replaced_by_its_like_in_training() -> None:
    rows, _ = settled(("lost card", "lost", "train"), ("lost card", "lost", "retired"))
    assert rows == [("lost card", "lost", "retired")]


def test_equal_texts_that_contradict_each_other_are_dropped_all_of_them() -> None:
    rows, told = settled(("lost card", "lost", "train"), ("Lost card?", "pin", "train"), ("top up", "top", "train"))
    assert rows == [("top up", "top", "train")]
    assert told.contradictory == 2


def test_a_missing_label_of_a_second_column_contradicts_none() -> None:
    table = pa.table({"y": ["a", "a"], "z": [None, "c"], "text": ["one", "one"], SPLIT: ["train", "train"]})
    found, told = duplicates.settle(table, options(label=["y", "z"]))
    assert (found["z"].to_pylist(), told.merged, told.contradictory) == (["c"], 1, 0)


def test_a_row_near_a_held_out_one_is_retired_whatever_its_label() -> None:
    near = LONG.replace("morning", "mornings")
    rows, told = settled((LONG, "a", "holdout"), (near, "b", "train"), (near + "!!", "b", "validation"))
    assert rows == [(LONG, "a", "holdout"), (near, "b", "retired")]
    assert (told.retired, told.near_duplicates, told.merged) == (1, 2, 1)


def test_validation_rows_near_a_training_row_train_with_it_also_by_a_chain() -> None:
    chain = [LONG + " " + "x" * length for length in (0, 5, 10)]
    rows, told = settled((chain[0], "a", "train"), (chain[1], "a", "validation"), (chain[2], "a", "validation"))
    assert {side for _, _, side in rows} == {"train"}
    assert told.moved == 2


def test_texts_that_differ_in_more_than_the_threshold_stay_where_they_are() -> None:
    rows, told = settled((LONG, "a", "holdout"), ("my card was stolen in the city of rome", "b", "train"))
    assert [side for _, _, side in rows] == ["holdout", "train"]
    assert told == Settled()


def test_without_a_threshold_only_equal_texts_count() -> None:
    text = {"columns": ["text"], "near_duplicates": None}
    rows, _ = settled((LONG, "a", "holdout"), (LONG + "x", "a", "train"), text=text)
    assert [side for _, _, side in rows] == ["holdout", "train"]


@pytest.mark.parametrize("text", ["!!!", "…", "👍"])
def test_texts_of_signs_alone_are_compared_as_they_are(text: str) -> None:
    rows, _ = settled((text, "a", "train"), ("?", "b", "train"))
    assert len(rows) == 2


words = st.lists(
    st.sampled_from(["card", "lost", "pin", "top", "money", "rate", "fee", "cash"]), min_size=1, max_size=12
)
sides = st.sampled_from(["train", "validation", "holdout", "retired"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(words.map(" ".join), st.sampled_from("ab"), sides), min_size=1, max_size=30))
def test_no_two_rows_that_are_alike_train_and_judge_and_none_enters_or_leaves_the_holdout(
    given_rows: list[tuple[str, str, str]],
) -> None:
    rows, _ = settled(*given_rows)
    shingled = [duplicates.shingles(duplicates.normalized(text)) for text, _, _ in rows]
    for one, (_, _, side) in enumerate(rows):
        for other, (_, _, another) in enumerate(rows):
            if {side, another} & {"train", "validation"} and {side, another} & {"holdout"}:
                # Banding is a sieve with holes near the threshold; well above it there is none to speak of.
                assert duplicates.jaccard(shingled[one], shingled[other]) < 0.9
    before = {(text, label) for text, label, side in given_rows if side == "holdout"}
    assert {(text, label) for text, label, side in rows if side == "holdout"} <= before


def test_thousands_of_texts_take_seconds() -> None:
    generator = np.random.default_rng(0)
    vocabulary = [f"word{i}" for i in range(3000)]
    texts = [" ".join(generator.choice(vocabulary, 12)) for _ in range(2_000)]
    assert duplicates.neighbours(texts, 0.8) == {}
