"""JSON rows as a model reads them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.runtimes import Batch
from app.runtimes.rows import to_batch
from app.runtimes.schema import Column, Head, InputSchema

HEADS = (Head(name="y", labels=(0, 1)),)
MIXED = InputSchema(
    columns=(
        Column(name="city", kind="categorical"),
        Column(name="age", kind="numeric"),
        Column(name="income", kind="numeric"),
    ),
    heads=(Head(name="y", labels=(0, 1), threshold=0.5),),
)
NUMERIC = InputSchema(
    columns=(Column(name="x", kind="numeric"), Column(name="y", kind="numeric")), heads=(Head(name="y", labels=(0, 1)),)
)
CATEGORICAL = InputSchema(columns=(Column(name="c", kind="categorical"),), heads=HEADS)


def refusal(rows: list[Any], schema: InputSchema = MIXED) -> Invalid:
    with pytest.raises(Invalid) as caught:
        to_batch(rows, schema)
    assert caught.value.code == "invalid_instances"
    return caught.value


def test_lists_and_objects_are_the_same_rows() -> None:
    lists = to_batch([["Rome", 31, 2.5], ["Oslo", None, 0]], MIXED)
    objects = to_batch([{"age": 31, "income": 2.5, "city": "Rome"}, {"city": "Oslo", "income": 0, "age": None}], MIXED)
    for batch in (lists, objects):
        np.testing.assert_array_equal(batch.numeric, np.array([[31, 2.5], [np.nan, 0]], np.float32))
        assert batch.numeric.dtype == np.float32
        assert batch.categorical.tolist() == [["Rome"], ["Oslo"]]


def test_rows_of_numbers_alone_and_of_names_alone_have_an_empty_other_side() -> None:
    numbers, names = to_batch([[1, 2.0], [3, None]], NUMERIC), to_batch([["a"], [None]], CATEGORICAL)
    assert (numbers.numeric.shape, numbers.categorical.shape) == ((2, 2), (2, 0))
    assert (names.numeric.shape, names.categorical.shape) == ((2, 0), (2, 1))
    assert names.categorical.tolist() == [["a"], [""]]


def test_whole_numbers_and_booleans_are_names_as_they_are_written() -> None:
    batch = to_batch([[10115], [True], [False], ["10115"], [None]], CATEGORICAL)
    assert batch.categorical[:, 0].tolist() == ["10115", "true", "false", "10115", ""]


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (["Rome", "31", 0], "age", "expected a number, not text"),
        (["Rome", True, 0], "age", "expected a number, not true or false"),
        (["Rome", [31], 0], "age", "expected a number, not a list"),
        (["Rome", {}, 0], "age", "expected a number, not an object"),
        (["Rome", math.nan, 0], "age", "expected a finite number"),
        (["Rome", -math.inf, 0], "age", "expected a finite number"),
        (["Rome", 1e39, 0], "age", "is too large for a 32-bit number"),
        (["Rome", 10**400, 0], "age", "is too large for a 32-bit number"),
        ([1.5, 31, 0], "city", "expected text, not a number"),
        ([["Rome"], 31, 0], "city", "expected text, not a list"),
        (["Rome", 31], None, "has 2 values, expected 3"),
        (["Rome", 31, 0, 0], None, "has 4 values, expected 3"),
        ([], None, "has 0 values, expected 3"),
        ({"city": "Rome", "age": 31}, "income", "is missing; send null where the value is unknown"),
        ({"city": "Rome", "age": 31, "income": 0, "shoe": 43}, "shoe", "is not a column of this model"),
        ("Rome", None, "expected a list of 3 values or an object"),
        (None, None, "expected a list of 3 values or an object"),
    ],
)
def test_what_does_not_fit_is_named_by_row_and_column(row: Any, column: str | None, message: str) -> None:
    assert refusal([row]).details == {"errors": [{"row": 0, "column": column, "message": message}], "more": 0}


def test_the_fault_is_found_in_the_row_that_has_it() -> None:
    good = ["Rome", 31, 0]
    error = refusal([good, good, ["Rome", 31, "much"]])
    assert error.message == (
        "The instances do not fit the model's input: row 2, column 'income': expected a number, not text."
    )


def test_lists_and_objects_may_not_be_mixed() -> None:
    error = refusal([["Rome", 31, 0], {"city": "Rome", "age": 31, "income": 0}])
    assert error.details["errors"] == [{"row": 1, "column": None, "message": "rows must be all lists or all objects"}]


def test_no_rows_are_refused() -> None:
    assert refusal([]).message == "There are no instances to predict."


def test_ten_faults_are_named_and_the_rest_counted() -> None:
    error = refusal([["Rome", "31", "0"]] * 8)
    assert len(error.details["errors"]) == 10
    assert error.details["more"] == 6
    assert error.message.endswith("(and 15 more).")


def test_no_message_echoes_a_value() -> None:
    error = refusal([["Rome", "secret", "secret"], "secret", [1.25, 31, 0]])
    assert "secret" not in str(error.problem())
    assert "1.25" not in str(error.problem())


def test_the_largest_float32_is_a_number_and_what_rounds_beyond_it_is_not() -> None:
    largest = float(np.finfo(np.float32).max)
    assert to_batch([[largest, -largest]], NUMERIC).numeric.tolist() == [[largest, -largest]]
    assert to_batch([[largest * (1 + 2**-26), 0]], NUMERIC).numeric.tolist() == [[largest, 0]]
    refusal([[largest * (1 + 2**-24), 0]], NUMERIC)


json_values = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3)


@given(st.lists(st.lists(json_values, min_size=2, max_size=4) | st.dictionaries(st.text(), json_values), min_size=1))
def test_whatever_json_sends_is_read_or_refused_with_a_named_fault(rows: list[Any]) -> None:
    try:
        batch = to_batch(rows, MIXED)
    except Invalid as error:
        assert error.details["errors"]  # noqa: PT017 - either outcome is right, and each has its own promise
    else:
        assert isinstance(batch, Batch)
        assert np.isfinite(batch.numeric).sum() == sum(v is not None for row in rows for v in row[1:])
