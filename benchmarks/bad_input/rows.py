"""Rows that do not fit the model: ragged, missing, extra, mistyped, empty, mixed; and those that do, all null."""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.bad_input.case import Case, only
from benchmarks.bad_input.routes import MIXED, NUMERIC, POSTED

Row = list[Any]
Named = dict[str, Any]

MIXED_ROW: Named = {"age": 41.0, "spend": 0.5, "plan": "basic", "region": "north"}
WIDTH = 30
ROW: Row = [0.5] * WIDTH
PREDICT = only("POST /predict/batch")
REFUSED, ANSWERED, TOO_MANY = frozenset({422}), frozenset({200}), frozenset({413})
NO_ROWS = frozenset({"invalid", "invalid_instances", "invalid_json"})
MOST_ROWS = 10_000


def _without(row: Named, column: str) -> Named:
    return {name: value for name, value in row.items() if name != column}


# What may not stand in a numeric cell, and what may not stand in a cell of text.
NO_NUMBER = {
    "a text": "@mark@",
    "digits in quotes": "91827364.5",
    "an empty text": "",
    "true": True,
    "a list": [0.5],
    "an object": {"@mark@": 1},
    "a number beyond 32 bits": 1e39,
    "a whole number beyond 32 bits": 10**39,
}
NO_TEXT = {"a fraction": 0.5, "a list": ["@mark@"], "an object": {"@mark@": 1}}

# Whole batches as rows of WIDTH numbers.
BATCHES: dict[str, Any] = {
    "no rows": [],
    "rows that are null": None,
    "rows that are an object": {"0": ROW},
    "rows that are a text": "@mark@",
    "rows that are a number": 91827364554,
    "a flat list": ROW,
    "one empty row": [[]],
    "only empty rows": [[], [], []],
    "an empty row among others": [ROW, [], ROW],
    "an empty object": [{}],
    "a row one short": [ROW[1:]],
    "a row one too long": [[*ROW, 0.5]],
    "ragged rows": [ROW, ROW[1:], [*ROW, 0.5]],
    "a row short, the next as much too long": [ROW[1:], [*ROW, 0.5]],
    "rows short by half, twice as many": [ROW[:15], ROW[15:]],
    "a row in a list too many": [[ROW]],
    "cells in lists of their own": [[[cell] for cell in ROW]],
    "a row that is null": [ROW, None],
    "a row that is a number": [ROW, 0.5],
    "a row that is a text": [ROW, "@mark@"],
    "a list, then an object": [ROW, {"mean_radius": 1}],
    "an object, then a list": [{"mean_radius": 1}, ROW],
    "10,000 wide": [[0.5] * 10_000],
    "a fault in the last of 1,000 rows": [*([ROW] * 999), [*ROW[1:], "@mark@"]],
    "1,000 faults": [["@mark@", *ROW[1:]]] * 1_000,
}
# The same as objects by name.
OBJECTS: dict[str, Any] = {
    "a column missing": [_without(MIXED_ROW, "age")],
    "a text column missing": [_without(MIXED_ROW, "plan")],
    "a column too many": [MIXED_ROW | {"nobody_knows_this": "@mark@"}],
    "a column too many with a strange name": [MIXED_ROW | {"<@mark@>": 1}],
    "a column too many with a long name": [MIXED_ROW | {"@mark@" + "n" * 50_000: 1}],
    "a column too many with a NUL": [MIXED_ROW | {"@mark@\0": 1}],
    "a column by another name": [_without(MIXED_ROW, "age") | {"Age": 1}],
    "a column in other letters": [_without(MIXED_ROW, "age") | {"\uff41ge": 1}],
    "a column with a space": [_without(MIXED_ROW, "age") | {"age ": 1}],
    "a column missing in one row of three": [MIXED_ROW, _without(MIXED_ROW, "spend"), MIXED_ROW],
    "the label as a column": [MIXED_ROW | {"churned": 1}],
    "the key as a column": [MIXED_ROW | {"id": 1}],
}
SAMPLES: dict[str, str] = {
    "no rows": "[]",
    "a row that is a list": '[["@mark@"]]',
    "a row that is null": "[null]",
    "a row without a label": '[{"x": 1}]',
    "a row whose label is null": '[{"y": null}]',
    "an empty row": "[{}]",
    "a row that is not flat": '[{"y": 1, "x": {"@mark@": 1}}]',
    "a list in a row": '[{"y": 1, "x": ["@mark@"]}]',
    "an escaped NUL in a row": '[{"y": 1, "x": "@mark@\\u0000"}]',
    "half a pair in a row": '[{"y": 1, "x": "@mark@\\ud800"}]',
    "a NUL in the name of a column": '[{"y": 1, "@mark@\\u0000": 1}]',
    "half a pair in the name of a column": '[{"y": 1, "@mark@\\ud800": 1}]',
    "a strange name and a value that is not flat": '[{"y": 1, "<@mark@>": []}]',
    "a reserved name": '[{"y": 1, "@row": 1}]',
    "a fault in the last of 1,000 rows": "[" + '{"y": 1},' * 999 + '{"x": "@mark@"}]',
    "10,001 rows": "[" + ",".join(['{"y": 1}'] * 10_001) + "]",
}


def cases() -> Iterator[Case]:
    for name, batch in BATCHES.items():
        yield _predict(f"instances: {name}", NUMERIC, batch, REFUSED, NO_ROWS)
    for name, rows in OBJECTS.items():
        yield _predict(f"instances: {name}", MIXED, rows, REFUSED, NO_ROWS)
    for name, cell in NO_NUMBER.items():
        yield _predict(f"instances: {name} in a list of numbers", NUMERIC, [[cell, *ROW[1:]]], REFUSED, NO_ROWS)
        yield _predict(f"instances: {name} for a number by name", MIXED, [MIXED_ROW | {"age": cell}], REFUSED, NO_ROWS)
        yield _predict(f"instances: {name} in the last row", NUMERIC, [ROW] * 50 + [[*ROW[1:], cell]], REFUSED, NO_ROWS)
    for name, cell in NO_TEXT.items():
        yield _predict(f"instances: {name} for a text", MIXED, [MIXED_ROW | {"plan": cell}], REFUSED, NO_ROWS)
        yield _predict(f"instances: {name} for a text in a list", MIXED, [[41.0, 0.5, cell, "north"]], REFUSED, NO_ROWS)
    yield from _fine()
    for name, told in SAMPLES.items():
        body = f'{{"model": "{POSTED}", "rows": {told}}}'
        codes = frozenset({"invalid", "invalid_rows"})
        yield Case(f"samples: {name}", REFUSED, codes, only("POST /data/samples"), body=body)


def _fine() -> Iterator[Case]:
    """Strange, and right: a missing value is null, an unknown category is one, and batches end at a limit."""
    nothing = dict.fromkeys(MIXED_ROW)
    yield _predict("instances: all null", NUMERIC, [[None] * WIDTH], ANSWERED)
    yield _predict("instances: all null by name", MIXED, [nothing], ANSWERED)
    yield _predict("instances: nulls and others", MIXED, [nothing, MIXED_ROW, MIXED_ROW | {"plan": None}], ANSWERED)
    yield _predict("instances: a category that nobody knows", MIXED, [MIXED_ROW | {"plan": "@mark@"}], ANSWERED)
    yield _predict("instances: a category of 10,000 letters", MIXED, [MIXED_ROW | {"plan": "x" * 10_000}], ANSWERED)
    yield _predict("instances: an empty category", MIXED, [MIXED_ROW | {"plan": ""}], ANSWERED)
    yield _predict("instances: a NUL in a category", MIXED, [MIXED_ROW | {"plan": "@mark@\0"}], ANSWERED)
    yield _predict("instances: columns in another order", MIXED, [dict(reversed(MIXED_ROW.items()))], ANSWERED)
    yield _predict(f"instances: {MOST_ROWS:,} rows", NUMERIC, [ROW] * MOST_ROWS, ANSWERED)
    many = frozenset({"too_many_rows"})
    yield _predict(f"instances: {MOST_ROWS + 1:,} rows", NUMERIC, [ROW] * (MOST_ROWS + 1), TOO_MANY, many)
    yield _predict(f"instances: {MOST_ROWS + 1:,} empty rows", NUMERIC, [[]] * (MOST_ROWS + 1), TOO_MANY, many)


def _predict(name: str, model: str, rows: Any, statuses: frozenset[int], codes: frozenset[str] = frozenset()) -> Case:
    return Case(name, statuses, codes, PREDICT, body=json.dumps({"model": model, "instances": rows}))
