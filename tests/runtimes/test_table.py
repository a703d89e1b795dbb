"""Arrow rows as a model reads them."""

import datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from app.errors import Invalid
from app.runtimes import rows
from app.runtimes.schema import Column, Head, InputSchema
from app.runtimes.table import kind_of, to_batch

Kind = Literal["numeric", "categorical"]


HEADS = (Head(name="y", labels=(0, 1)),)


def schema(**columns: Kind) -> InputSchema:
    return InputSchema(
        columns=tuple(Column(name=n, kind=k) for n, k in columns.items()), heads=(Head(name="y", labels=(0, 1)),)
    )


def texts(values: pa.Array) -> list[str]:
    return list(to_batch(pa.table({"c": values}), schema(c="categorical")).categorical[:, 0])


def numbers(values: pa.Array) -> list[float]:
    return list(to_batch(pa.table({"c": values}), schema(c="numeric")).numeric[:, 0])


def test_columns_come_in_the_schemas_order_and_others_are_left_out() -> None:
    table = pa.table({"x": ["a", "b"], "n": [1, 2], "label": [0, 1], "m": [3.5, None]})
    batch = to_batch(table, schema(m="numeric", x="categorical", n="numeric"))
    np.testing.assert_array_equal(batch.numeric, np.array([[3.5, 1], [np.nan, 2]], np.float32))
    assert batch.numeric.dtype == np.float32
    assert batch.categorical.tolist() == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["a", None, ""]), ["a", "", ""]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", "", "a"]),
        (pa.array([True, False, None]), ["true", "false", ""]),
        (pa.array([94110, None]), ["94110", ""]),
        (pa.array([94110.0, float("nan"), None]), ["94110", "", ""]),
        (pa.array([Decimal("3.00")]), ["3"]),
        (pa.nulls(2), ["", ""]),
    ],
)
def test_names_become_text(values: pa.Array, expected: list[str]) -> None:
    assert texts(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2**60]), [1.0, float(2**60)]),
        (pa.array([0.1]), [float(np.float32(0.1))]),
        (pa.array([Decimal("1.50")]), [1.5]),
        (pa.array([1.5, 2.5]).dictionary_encode(), [1.5, 2.5]),
    ],
)
def test_numbers_become_float32(values: pa.Array, expected: list[float]) -> None:
    assert numbers(values) == expected
    assert np.isnan(numbers(pa.array([None, 1]))[0])


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (pa.array(["1"]), "numeric", "column 'c' must hold numbers, not string"),
        (pa.array([True]), "numeric", "column 'c' must hold numbers, not bool"),
        (pa.array([1e39, 1.0]), "numeric", "column 'c' has 1 values that are infinite or too large"),
        (pa.array([0.5]), "categorical", "column 'c' holds fractions, which cannot be names"),
        (pa.array([datetime.date(2026, 1, 1)]), "categorical", "column 'c' must hold names, not date32"),
        (pa.array([[1]]), "categorical", "column 'c' must hold names, not list"),
    ],
)
def test_a_column_that_cannot_be_read_is_named_with_the_reason(values: pa.Array, kind: Kind, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        to_batch(pa.table({"c": values}), schema(c=kind))
    assert message in caught.value.message


def test_every_missing_column_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        to_batch(pa.table({"a": [1]}), schema(a="numeric", b="numeric", c="categorical"))
    assert caught.value.code == "unreadable_rows"
    assert [error["column"] for error in caught.value.details["errors"]] == ["b", "c"]


def test_no_rows_make_an_empty_batch() -> None:
    batch = to_batch(pa.table({"n": pa.array([], pa.int64()), "x": pa.array([], pa.string())}), schema(n="numeric"))
    assert (len(batch), batch.categorical.shape) == (0, (0, 0))


@pytest.mark.parametrize("value", ["a", "", None, True, False, 0, 94110])
def test_a_name_from_a_table_is_the_same_text_as_one_from_json(value: Any) -> None:
    read = schema(c="categorical")
    assert texts(pa.array([value])) == rows.to_batch([[value]], read).categorical[:, 0].tolist()


@pytest.mark.parametrize("value", [0, 1.5, -3, 1e-40, None])
def test_a_number_from_a_table_is_the_same_number_as_one_from_json(value: Any) -> None:
    read = schema(c="numeric")
    from_json = rows.to_batch([[value]], read).numeric
    np.testing.assert_array_equal(to_batch(pa.table({"c": [value]}), read).numeric, from_json)


@pytest.mark.parametrize(
    ("arrow", "kind"),
    [
        (pa.int8(), "numeric"),
        (pa.float16(), "numeric"),
        (pa.decimal128(5, 2), "numeric"),
        (pa.bool_(), "categorical"),
        (pa.large_string(), "categorical"),
        (pa.dictionary(pa.int32(), pa.string()), "categorical"),
        (pa.timestamp("us"), None),
        (pa.list_(pa.int8()), None),
    ],
)
def test_a_type_says_by_itself_what_kind_it_is(arrow: pa.DataType, kind: Kind | None) -> None:
    assert kind_of(arrow) == kind
