"""What is counted of a version, and where in one flat vector it stands: frozen with the version, named by digest.

    totals           requests, rows, skipped, errors, invalid
    latency          requests by bins of LATENCY
    column <name>    numeric: its bins, missing; categorical: its categories, other, missing
    scores <head>    rows by bins of the score
    labels <head>    rows by the label that the version gave

`skipped` rows are in `rows` and `labels`, and were left out of columns and scores: under load whole requests are
sampled. Bins are those of the reference profile (workers/ml/profile.py): bin i holds edges[i-1] <= x < edges[i].
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from app.runtimes.schema import InputSchema

TOTALS = ("requests", "rows", "skipped", "errors", "invalid")
# Of a version without a profile the scores are counted in so many equal bins.
SCORE_BINS = 20
# Of a text nothing is counted but how long it is.
CHARACTERS = "@characters"

Place = tuple[str, str]  # (totals | latency | column | scores | labels, of which column or head)


def _latency() -> list[float]:
    """Seconds: ten bins a decade from 10 µs to 100 s, twenty between 1 ms and 10 s."""
    fine = np.geomspace(1e-3, 10, 81)
    coarse = np.concatenate([np.geomspace(1e-5, 1e-3, 21)[:-1], fine, np.geomspace(10, 100, 11)[1:]])
    return [float(f"{edge:.4g}") for edge in coarse]


LATENCY = _latency()


@dataclass(frozen=True)
class Layout:
    """`told` is JSON: {columns: {name: {edges | categories}}, heads: {name: {edges, labels}}, latency: edges, order}.

    `order` has the names of the heads as the version answers them; the first is the model's answer.
    """

    told: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(orjson.dumps(self.told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    @cached_property
    def places(self) -> dict[Place, slice]:
        """Where each count stands, in the vector's order."""
        found, start = {}, 0
        for place, width in self._widths():
            found[place] = slice(start, start + width)
            start += width
        return found

    @cached_property
    def width(self) -> int:
        return sum(width for _, width in self._widths())

    def _widths(self) -> list[tuple[Place, int]]:
        # By name: JSONB keeps no order of keys.
        columns, heads = sorted(self.told["columns"].items()), sorted(self.told["heads"].items())
        return [
            (("totals", ""), len(TOTALS)),
            (("latency", ""), len(self.told["latency"]) + 1),
            *((("column", name), _width(column)) for name, column in columns),
            *((("scores", name), len(head["edges"]) + 1) for name, head in heads),
            *((("labels", name), len(head["labels"])) for name, head in heads),
        ]


def layout_of(schema: InputSchema, profile: Mapping[str, Any] | None) -> Layout:
    """The layout of a version. Without a profile: totals, latency, scores and labels, no columns."""
    known = profile or {"columns": {}, "heads": {}}
    equal = [round((i + 1) / SCORE_BINS, 6) for i in range(SCORE_BINS - 1)]
    heads = {}
    for head in schema.heads:
        edges = known["heads"].get(head.name, {}).get("scores", {}).get("edges") or equal
        heads[kept(head.name)] = {"edges": edges, "labels": [kept(label) for label in head.labels]}
    columns = {kept(name): _column(column) for name, column in known["columns"].items()}
    return Layout(
        {"columns": columns, "heads": heads, "order": [kept(head.name) for head in schema.heads], "latency": LATENCY}
    )


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    if column["kind"] == "numeric":
        return {"edges": column["edges"]}
    return {"categories": [kept(category) for category in column["counts"]]}


def _width(column: Mapping[str, Any]) -> int:
    return len(column["edges"]) + 2 if "edges" in column else len(column["categories"]) + 2


def kept(value: Any) -> Any:
    """A name or a label as Postgres can keep it: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", "\ufffd").encode(errors="replace").decode()
