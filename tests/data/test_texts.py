"""What a text must be before a data version is made of it."""

import re
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from app.data import columns, texts
from app.data.sources import SourceOptions, options_of
from app.errors import Invalid

TABLE = pa.table({"id": [7, 8, 9], "title": ["Kita", None, " "], "content": ["Mittel", "Haus", None], "y": list("aba")})


def options(text: dict[str, Any] | None = None, **more: Any) -> SourceOptions:
    told = {"columns": ["title", "content"], **(text or {})}
    return options_of({"source": "samples", "label": "y", "key": "id", "text": told} | more)


def test_columns_are_composed_one_below_the_other_or_by_the_template() -> None:
    plain, told = options().text, options({"template": "{title}: {content}"}).text
    assert plain is not None
    assert told is not None
    assert texts.of(TABLE, plain) == ["Kita\n\nMittel", "Haus", ""]
    assert texts.of(TABLE, told) == ["Kita: Mittel", ": Haus", ""]


@pytest.mark.parametrize("template", ["{title.upper}", "{title!r}{content}", "{title:>9}{content}", "{}", "{title"])
def test_a_template_is_filled_in_and_never_executed(template: str) -> None:
    with pytest.raises(ValidationError):
        options({"template": template})


def test_a_template_has_every_column_and_no_other() -> None:
    with pytest.raises(ValidationError, match="the template has"):
        options({"template": "{title} {author}"})


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({}, "text_missing", "id 9: there is no text"),
        ({"text": {"empty": "drop", "longest": 8}}, "text_too_long", "id 7: there is a text of 12 characters, and 8"),
        ({"text": {"columns": ["id"]}, "key": None}, "column_type", "Column 'id' is int64"),
        ({"text": {"empty": "drop"}, "labels": ["a", "c"]}, "label_unknown", "has the label 'b', which data.labels"),
    ],
)
def test_what_cannot_be_a_text_is_refused_with_its_row(change: dict[str, Any], code: str, told: str) -> None:
    text = change.pop("text", None)
    with pytest.raises(Invalid, match=re.escape(told)) as refused:
        columns.require_texts(TABLE, options(text, **change))
    assert (refused.value.code, bool(refused.value.remedy)) == (code, True)


def test_no_text_is_ever_told_back() -> None:
    table = pa.table({"id": [1], "title": ["secret " * 100], "content": [""], "y": ["a"]})
    with pytest.raises(Invalid) as refused:
        columns.require_texts(table, options({"longest": 10}))
    assert "secret" not in str(refused.value.message)


@pytest.mark.parametrize(
    "change",
    [
        {"label": ["y", "y"]},
        {"label": []},
        {"label": ["y", "z"], "labels": ["a"]},
        {"labels": {"z": ["a"]}},
        {"label": "title"},
        {"features": ["title"]},
        {"categorical": ["title"]},
    ],
)
def test_roles_that_contradict_each_other_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**change)
