"""What replicas and reporters would have written, written at once."""

from typing import Any

import numpy as np
from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.feedback.tables import FeedbackCounts
from app.registry.tables import ModelVersion
from app.runtimes.schema import Column, Head, InputSchema
from app.traffic import service as traffic
from app.traffic.layout import TOTALS, layout_of

SCHEMA = InputSchema(columns=(Column(name="x", kind="numeric"),), heads=(Head(name="y", labels=("no", "yes")),))
# The column's quartiles, a quarter of a thousand training rows between each two.
PROFILE: dict[str, Any] = {
    "columns": {"x": {"kind": "numeric", "edges": [-1.0, 0.0, 1.0], "counts": [250] * 4, "missing": 0}},
    "heads": {"y": {"scores": {"edges": [0.25, 0.5, 0.75], "counts": [250] * 4}}},
}
LAYOUT = layout_of(SCHEMA, PROFILE)


async def serve(
    session: AsyncSession,
    model: str,
    version: int,
    *,
    requests: int = 0,
    errors: int = 0,
    seconds: float = 0.001,
    column: list[int] | None = None,
    scores: list[int] | None = None,
) -> None:
    """Counts of the present minute. `column` and `scores` are rows by bin; the column's last one is missing values."""
    counts = np.zeros(LAYOUT.width, np.int64)
    rows = sum(column or [requests])
    for name, value in (("requests", requests), ("rows", rows), ("errors", errors)):
        counts[TOTALS.index(name)] = value
    latency = LAYOUT.places["latency", ""]
    counts[latency.start + int(np.searchsorted(LAYOUT.told["latency"], seconds))] = requests
    for place, told in ((("column", "x"), column), (("scores", "y"), scores)):
        if told is not None:
            counts[LAYOUT.places[place]] = told
    await traffic.keep_layout(session, model, version, LAYOUT)
    await traffic.add(session, model, version, "active", LAYOUT, counts)


async def answer_back(session: AsyncSession, model: str, version: int, confusion: dict[tuple[int, int], int]) -> None:
    """Labels that came this minute: rows by (truth, prediction)."""
    await traffic.keep_layout(session, model, version, LAYOUT)
    for (truth, predicted), n in confusion.items():
        key = {"model": model, "version": version, "slot": "active", "head": "", "kind": "label", "at": clock()}
        row = insert(FeedbackCounts).values(key | {"truth": truth, "predicted": predicted, "n": n})
        await session.execute(row)


async def gated(session: AsyncSession, model: str, number: int, *, f1: float, rows: int = 5_000) -> None:
    """As if the gate had measured that F1 on so many rows, half of them positive."""
    half = rows // 2
    hits = round(half * f1)
    counts = [{"label": label, "actual": half, "given": half, "hits": hits} for label in ("no", "yes")]
    gate = {"verdict": "pass", "reason": "of the test", "criteria": [], "standings": {"y": counts}}
    row = update(ModelVersion).where(ModelVersion.model == model, ModelVersion.number == number)
    await session.execute(row.values(gate=gate, metrics={"f1": f1}))
