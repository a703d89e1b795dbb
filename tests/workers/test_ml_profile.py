"""The reference profile of columns, scores and labels."""

import json
from typing import Any

import numpy as np
import pytest

from app.runtimes import Batch
from app.runtimes.onnx import decide
from app.runtimes.schema import Column, Head, InputSchema
from workers.ml.profile import edges_of, profile

ROWS = 1000
SCHEMA = InputSchema(
    columns=(Column(name="name", kind="categorical"), Column(name="number", kind="numeric")),
    heads=(Head(name="y", labels=("no", "yes"), threshold=0.5),),
)


def profiled(numbers: Any, names: Any) -> dict[str, Any]:
    batch = Batch(np.array(numbers, np.float32)[:, None], np.array(names, np.object_)[:, None])
    scores = np.linspace(0, 1, 200)
    prediction = decide(np.column_stack([1 - scores, scores]), SCHEMA.heads[0])
    found = profile(SCHEMA, batch, [np.arange(ROWS) % 4 // 3], [prediction])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_each_of_ten_bins_holds_a_tenth_and_missing_values_are_counted_apart() -> None:
    numbers = np.random.default_rng(0).normal(5, 2, ROWS)
    numbers[::10] = np.nan
    column = profiled(numbers, ["x"] * ROWS)["columns"]["number"]
    assert len(column["counts"]) == len(column["edges"]) + 1 == 10
    assert max(abs(count - 90) for count in column["counts"]) <= 1
    assert sum(column["counts"]) + column["missing"] == ROWS
    assert column["mean"] == pytest.approx(np.nanmean(numbers), rel=1e-6)
    assert column["min"] < column["edges"][0]
    assert column["edges"][-1] < column["max"]


def test_a_constant_has_a_bin_of_its_own_so_that_leaving_it_is_seen() -> None:
    column = profiled([7.0] * ROWS, ["x"] * ROWS)["columns"]["number"]
    assert column["counts"] == [0, ROWS, 0]
    assert column["edges"][0] == 7.0
    assert np.float32(7.0) < np.float32(column["edges"][1])


def test_an_inflated_zero_has_a_bin_of_its_own() -> None:
    edges = edges_of(np.array([0.0] * 60 + list(range(-20, 0)) + list(range(1, 21)), np.float32))
    places = np.searchsorted(edges, np.array([-0.001, 0, 0.001], np.float32), side="right")
    assert len(set(places.tolist())) == 3


def test_a_column_of_gaps_has_one_empty_bin() -> None:
    column = profiled([np.nan] * ROWS, [""] * ROWS)["columns"]
    assert column["number"]["counts"] == [0]
    assert column["number"]["missing"] == ROWS
    assert column["number"]["mean"] is None
    assert column["name"] == {"kind": "categorical", "counts": {}, "other": 0, "missing": ROWS}


def test_names_are_counted_and_rare_ones_summed_up() -> None:
    names = ["often"] * 700 + [""] * 100 + [f"rare{i}" for i in range(200)]
    column = profiled([1.0] * ROWS, names)["columns"]["name"]
    assert column["counts"]["often"] == 700
    assert len(column["counts"]) == 64
    assert (column["other"], column["missing"]) == (137, 100)


def test_labels_and_scores_stand_beside_the_columns() -> None:
    found = profiled([1.0] * ROWS, ["x"] * ROWS)
    assert found["rows"] == ROWS
    head = found["heads"]["y"]
    assert head["labels"] == [
        {"label": "no", "share": 0.75, "predicted": 0.5},
        {"label": "yes", "share": 0.25, "predicted": 0.5},
    ]
    assert sum(head["scores"]["counts"]) == 200
    assert max(abs(count - 20) for count in head["scores"]["counts"]) <= 1
    assert list(found["columns"]) == ["name", "number"]
