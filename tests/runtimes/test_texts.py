"""Texts as callers send them, and as a data version has them."""

from typing import Any

import pyarrow as pa
import pytest

from app.errors import Invalid
from app.runtimes import table
from app.runtimes.rows import to_batch
from app.runtimes.schema import Column, Head, InputSchema, TextInput

SCHEMA = InputSchema(
    columns=(Column(name="title", kind="text"), Column(name="content", kind="text")),
    heads=(Head(name="y", labels=("a", "b"), threshold=0.5),),
    text=TextInput(template="{title}: {content}", longest=20),
)
ROWS = [("Kita", "Mittel"), ("Haus", None), (None, " x ")]
COMPOSED = ["Kita: Mittel", "Haus:", ": x"]


@pytest.mark.parametrize(
    "rows",
    [
        [list(row) for row in ROWS],
        [dict(zip(("title", "content"), row, strict=True)) for row in ROWS],
        [{"content": content, "title": title} for title, content in ROWS],
        [f" {text}\n" for text in COMPOSED],
    ],
)
def test_lists_objects_and_texts_are_read_alike(rows: list[Any]) -> None:
    batch = to_batch(rows, SCHEMA)
    assert batch.texts is not None
    assert batch.texts.tolist() == COMPOSED
    assert len(batch) == 3


def test_training_reads_a_data_version_as_serving_reads_requests() -> None:
    titles, contents = zip(*ROWS, strict=True)
    batch = table.to_batch(pa.table({"content": list(contents), "y": list("aba"), "title": list(titles)}), SCHEMA)
    assert batch.texts is not None
    assert batch.texts.tolist() == COMPOSED


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ("", None, "has no text"),
        (" \n", None, "has no text"),
        ([None, " "], None, "has no text"),
        ("go\ud800al", None, "has a text that is not valid Unicode"),
        ("x" * 21, None, "has a text of 21 characters; at most 20 are read"),
        ({"title": "x" * 20, "content": "y"}, None, "has a text of 23 characters; at most 20 are read"),
        (["a", 1], "content", "expected text, not a number"),
        (["a", True], "content", "expected text, not true or false"),
        (["a"], None, "has 1 values, expected 2"),
        ({"title": "a"}, "content", "is missing; send null where the value is unknown"),
        ({"title": "a", "content": "b", "author": "c"}, "author", "is not a column of this model"),
        (7, None, "expected a list of 2 values or an object, or a text"),
        (None, None, "expected a list of 2 values or an object, or a text"),
    ],
)
def test_what_is_no_text_is_named_by_row_and_column(row: Any, column: str | None, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        to_batch([row], SCHEMA)
    assert refused.value.details["errors"] == [{"row": 0, "column": column, "message": message}]


def test_texts_and_objects_do_not_mix() -> None:
    with pytest.raises(Invalid, match="row 1: rows must be all"):
        to_batch(["a", {"title": "a", "content": "b"}], SCHEMA)


def test_a_data_version_with_a_row_without_text_is_unreadable() -> None:
    with pytest.raises(Invalid, match="Row 0 has no text") as refused:
        table.to_batch(pa.table({"title": [None], "content": [""]}), SCHEMA)
    assert refused.value.code == "unreadable_rows"
