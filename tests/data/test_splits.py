"""The invariant of app/data/splits.py, and what it costs."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data.preparation import Prepared, prepare
from app.data.splits import ENOUGH_TO_JUDGE, check_change
from app.definitions.schemas import Definition
from app.errors import Invalid, RefitError, Refused

NOBODY = np.empty(0, np.uint64)


def definition(split: dict[str, Any] | None = None, **data: Any) -> Definition:
    source = {"source": "samples", "label": "y", **data}
    return Definition.model_validate({"type": "classifier", "data": source, "split": split or {}})


def table(n: int, start: int = 0) -> pa.Table:
    at = range(start, start + n)
    return pa.table({"id": at, "x": [i * 0.5 for i in at], "y": [i % 2 for i in at], "t": at})


def again(rows: pa.Table, wanted: Definition, last: Prepared | None = None) -> Prepared:
    """As the next data version would be: what was fixed has gone through jsonb."""
    if last is None:
        return prepare(rows, wanted, before=None, judged=NOBODY)
    before = json.loads(json.dumps(last.fixed, sort_keys=True))
    return prepare(rows, wanted, before=before, judged=last.judged)


def side(prepared: Prepared, name: str, column: str = "id") -> set[Any]:
    rows = prepared.rows
    return {
        value for value, its in zip(rows[column].to_pylist(), rows["__split"].to_pylist(), strict=True) if its == name
    }


def shares(prepared: Prepared) -> dict[str, float]:
    counted = prepared.rows["__split"].value_counts().to_pylist()
    return {pair["values"]: pair["counts"] / prepared.rows.num_rows for pair in counted}


# The invariant

KEYS = st.integers(0, 60)
SPLITS = st.fixed_dictionaries(
    {
        "by": st.sampled_from(["hash", "time"]),
        "validation": st.sampled_from([0.1, 0.2, 0.3]),
        "holdout": st.sampled_from([0.1, 0.2, 0.3, 0.4]),
    }
)
# A row by its key, and its time; in any order, gone and back, late, and with another time than before.
ROWS = st.dictionaries(KEYS, st.integers(0, 40), min_size=20, max_size=60)
IDENTITIES = st.sampled_from([{"key": "id", "time": "t"}, {"time": "t"}, {"key": "x", "time": "t"}])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ROWS, SPLITS, IDENTITIES), min_size=2, max_size=6))
def test_no_row_that_was_ever_holdout_trains(
    history: list[tuple[dict[int, int], dict[str, Any], dict[str, Any]]],
) -> None:
    current: Definition | None = None
    last: Prepared | None = None
    held: set[Any] = set()
    for rows, split, data in history:
        wanted = definition(split, **data)
        try:
            if current is not None:
                check_change(current, wanted)
            current = wanted
        except Refused:
            assert current is not None
        whole = pa.table(
            {
                "id": list(rows),
                "x": [k + 0.25 for k in rows],
                "y": [k % 2 for k in rows],
                "t": list(rows.values()),
            }
        )
        try:
            last = again(whole, current, last)
        except Invalid:
            continue  # a side without rows; no data version comes of it
        known_by = "t" if current.split.by == "time" and current.data.key is None else "id"
        assert not held & (side(last, "train", known_by) | side(last, "validation", known_by))
        held |= side(last, "holdout", known_by)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.permutations(["x", "z", "w"]))
def test_rows_without_a_key_keep_their_side_when_columns_come_and_change_places(
    grown: list[int], order: list[str]
) -> None:
    last, held, n = None, set[Any](), 60
    for added in grown:
        n += added
        columns: dict[str, Any] = {
            "id": range(n),
            "x": range(n),
            "z": [str(i) for i in range(n)],
            "w": [None] * n,
        }
        names = [*order, "late"] if last else order
        rows = pa.table({name: columns.get(name, range(n)) for name in names} | {"id": range(n), "y": [0] * n})
        last = again(rows, definition(ignore=["id"]), last)
        trained = {
            i
            for i, its in zip(last.rows["x"].to_pylist(), last.rows["__split"].to_pylist(), strict=True)
            if its == "train"
        }
        assert not held & trained
        held |= side(last, "holdout", "x")


# By hash


def test_a_hash_split_has_the_shares_that_were_asked_for() -> None:
    found = shares(again(table(20_000), definition({"validation": 0.1, "holdout": 0.2}, key="id", time="t")))
    assert found["holdout"] == pytest.approx(0.2, abs=0.01)
    assert found["validation"] == pytest.approx(0.1, abs=0.01)


def test_a_key_is_the_same_as_number_and_as_text() -> None:
    rows = table(300)
    as_text = rows.set_column(0, "id", rows["id"].cast(pa.string()))
    as_fraction = rows.set_column(0, "id", rows["id"].cast(pa.float64()))
    held = side(again(rows, definition(key="id")), "holdout")
    assert {int(i) for i in side(again(as_text, definition(key="id")), "holdout")} == held
    assert side(again(as_fraction, definition(key="id")), "holdout") == held


def test_neighbouring_keys_beyond_the_precision_of_a_float_are_told_apart() -> None:
    rows = table(300).set_column(0, "id", pa.array([2**62 + i for i in range(300)]))
    assert again(rows, definition(key="id")).duplicates == 0


def test_identical_rows_without_a_key_share_a_side() -> None:
    twice = pa.concat_tables([table(200), table(200)])
    found = again(twice, definition(ignore=["id", "t"]))
    assert found.duplicates == 200
    assert not side(found, "holdout", "x") & side(found, "train", "x")


def test_a_column_that_rows_are_known_by_may_not_vanish() -> None:
    first = again(table(200), definition())
    with pytest.raises(Refused, match="'x' is gone") as refused:
        again(table(200).drop_columns(["x"]), definition(), first)
    assert refused.value.code == "split_would_leak"


def test_a_column_that_rows_are_known_by_may_not_turn_into_text() -> None:
    first = again(table(200), definition())
    as_text = table(200).set_column(1, "x", table(200)["x"].cast(pa.string()))
    with pytest.raises(Refused, match="'x' is text, not number"):
        again(as_text, definition(), first)


# By time


def test_a_time_split_trains_on_the_oldest_and_judges_the_newest() -> None:
    found = again(table(1000), definition({"by": "time", "validation": 0.1, "holdout": 0.2}, key="id", time="t"))
    assert side(found, "train") == set(range(700))
    assert side(found, "validation") == set(range(700, 800))
    assert side(found, "holdout") == set(range(800, 1000))


def test_rows_of_the_same_time_share_a_side() -> None:
    rows = table(1000).set_column(3, "t", pa.array([i // 300 for i in range(1000)]))
    found = again(rows, definition({"by": "time", "validation": 0.2, "holdout": 0.2}, time="t"))
    assert side(found, "holdout", "t") == {2, 3}
    assert side(found, "validation", "t") == {1}


def test_what_was_judged_before_is_retired_and_the_rows_between_train() -> None:
    by_time = definition({"by": "time", "validation": 0.1, "holdout": 0.2}, time="t")
    second = again(table(2000), by_time, again(table(1000), by_time))
    assert side(second, "retired") == set(range(800, 1000))
    assert side(second, "holdout") == set(range(1600, 2000))
    assert set(range(1000, 1400)) < side(second, "train")


def test_a_few_new_rows_of_many_still_reach_the_training() -> None:
    by_time = definition({"by": "time", "validation": 0.1, "holdout": 0.2}, time="t")
    n, new = 50_000, 2 * int(ENOUGH_TO_JUDGE / 0.2)
    second = again(table(n + new), by_time, again(table(n), by_time))
    assert len(side(second, "holdout")) == 0.2 * new
    assert set(range(n, n + new // 2)) <= side(second, "train") | side(second, "validation")


def test_the_edge_never_moves_back_into_rows_that_were_trained_on() -> None:
    first = again(table(1000), definition({"by": "time", "holdout": 0.1}, time="t"))
    second = again(table(1000), definition({"by": "time", "holdout": 0.4}, time="t"), first)
    assert side(second, "holdout") == side(first, "holdout") == set(range(900, 1000))


def test_a_late_row_of_a_judged_stretch_is_retired() -> None:
    by_time = definition({"by": "time"}, key="id", time="t")
    first = again(table(1000), by_time)
    late = pa.table({"id": [5000], "x": [1.0], "y": [1], "t": [900]})
    assert side(again(pa.concat_tables([table(3000), late]), by_time, first), "retired") >= {5000}


def test_a_held_out_key_that_comes_back_under_another_time_is_retired() -> None:
    by_time = definition({"by": "time"}, key="id", time="t")
    first = again(table(1000), by_time)
    without = again(table(2000).filter(pa.array([i != 990 for i in range(2000)])), by_time, first)
    moved = pa.table({"id": [990], "x": [1.0], "y": [1], "t": [3]})
    back = pa.concat_tables([table(990), table(1010, start=991), moved])
    assert side(again(back, by_time, without), "retired") >= {990}


def test_moments_of_every_kind_are_the_same_time() -> None:
    texts = [f"2024-03-{1 + i // 24:02}T{i % 24:02}:00:00" for i in range(480)]
    stamps = pa.array(texts).cast(pa.timestamp("s"))
    forms = [pa.array(texts), stamps, stamps.cast(pa.timestamp("ns")), pa.array([f"{t}Z" for t in texts])]
    by_time = definition({"by": "time"}, time="t")
    found = [again(table(480).set_column(3, "t", form), by_time) for form in forms]
    assert {f.fixed["edge"] for f in found} == {"2024-03-18T00:00:00"}
    assert [f.high_water for f in found] == ["2024-03-20T23:00:00"] * 3 + ["2024-03-20T23:00:00+00:00"]


def test_the_time_may_not_turn_from_a_number_into_a_moment() -> None:
    by_time = definition({"by": "time"}, time="t")
    first = again(table(480), by_time)
    moments = table(480).set_column(3, "t", pa.array([f"2024-03-{1 + i // 24:02}" for i in range(480)]))
    with pytest.raises(Refused, match="was a number and is a moment"):
        again(moments, by_time, first)


def test_places_in_a_source_that_grows_at_its_end_are_times() -> None:
    by_place = definition({"by": "time"}, time="@row")
    second = again(table(3000), by_place, again(table(1000), by_place))
    assert side(second, "retired") == set(range(850, 1000))


def test_places_in_a_source_that_moved_on_are_refused() -> None:
    by_place = definition({"by": "time"}, time="@row")
    first = again(table(1000), by_place)
    with pytest.raises(Refused, match="first 1000 rows are not those") as refused:
        again(table(1000, start=100), by_place, first)
    assert refused.value.code == "split_would_leak"


def test_a_split_without_rows_to_judge_by_is_refused_with_its_counts() -> None:
    by_time = definition({"by": "time"}, time="t")
    with pytest.raises(Invalid, match=r"no rows for train and validation") as refused:
        again(table(50).set_column(3, "t", pa.array([7] * 50)), by_time)
    assert refused.value.code == "insufficient_data"


# Changes of the definition

HASHED = definition({"holdout": 0.2}, key="id", time="t")
TIMED = definition({"by": "time", "holdout": 0.2}, key="id", time="t")
PLACED = definition({"by": "time"}, time="@row")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (HASHED, definition({"holdout": 0.1}, key="id", time="t"), "split.holdout shrinks from 0.2 to 0.1"),
        (HASHED, definition({"holdout": 0.2}, key="x", time="t"), "data.key changes from id to x"),
        (HASHED, definition({"holdout": 0.2}, time="t"), "data.key changes from id to None"),
        (HASHED, TIMED, "split.by changes from hash to time"),
        (TIMED, HASHED, "split.by changes from time to hash"),
        (TIMED, definition({"by": "time"}, key="id", time="x"), "data.time changes from t to x"),
        (
            PLACED,
            definition({"by": "time"}, source="file", path="/data/x.csv", time="@row"),
            "data.source changes from samples to file",
        ),
    ],
)
def test_a_change_that_could_move_rows_out_of_the_holdout_is_refused(
    old: Definition, new: Definition, why: str
) -> None:
    with pytest.raises(Refused, match=why) as refused:
        check_change(old, new)
    assert refused.value.code == "split_would_leak"
    assert "new model" in str(refused.value.remedy)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (HASHED, definition({"holdout": 0.3, "validation": 0.05}, key="id")),
        (HASHED, definition({"holdout": 0.2}, key="id", source="file", path="/data/x.csv")),
        (TIMED, definition({"by": "time", "holdout": 0.1}, key="id", time="t")),
        (definition(), definition(features=["x"])),
    ],
)
def test_a_change_that_keeps_every_holdout_row_is_let_pass(old: Definition, new: Definition) -> None:
    check_change(old, new)


def test_an_older_definition_cannot_undo_a_grown_holdout() -> None:
    grown = again(table(500), definition({"holdout": 0.3}, key="id"))
    with pytest.raises(RefitError, match=r"shrinks from 0\.3 to 0\.15"):
        again(table(500), definition(key="id"), grown)
