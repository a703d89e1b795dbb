"""What is counted adds up, and a window of it is what one would have counted by hand."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.runtimes import Batch, Prediction
from app.runtimes.onnx import decide
from app.runtimes.schema import Column, Head, InputSchema, TextInput
from app.runtimes.texts import batch_of
from app.traffic import service as traffic
from app.traffic import tally
from app.traffic.layout import LATENCY, Layout, layout_of
from app.traffic.tables import TrafficCounts
from tests.artifacts import PROFILE, SCHEMA

LAYOUT = layout_of(SCHEMA, PROFILE)
NOW = datetime.now(UTC)


def test_each_count_has_its_place_and_the_digest_names_them_all() -> None:
    ends = [place.stop for place in LAYOUT.places.values()]
    assert [place.start for place in LAYOUT.places.values()] == [0, *ends[:-1]]
    assert LAYOUT.width == ends[-1] == 5 + len(LATENCY) + 1 + 5 + 3 + 3 + 2
    assert layout_of(SCHEMA, PROFILE).digest == LAYOUT.digest
    assert layout_of(SCHEMA, None).digest != LAYOUT.digest


def test_latency_is_finest_where_services_answer() -> None:
    steps = np.diff(np.log10(LATENCY))
    assert (np.diff(LATENCY) > 0).all()
    assert {round(step, 2) for step in steps[(np.array(LATENCY[1:]) > 1.05e-3) & (np.array(LATENCY[1:]) < 9)]} == {0.05}


def test_columns_are_counted_as_the_profile_counted_them() -> None:
    values = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    values[:100] = np.nan
    edges = np.quantile(values[100:], np.linspace(0.1, 0.9, 9), method="inverted_cdf")
    by_search = np.bincount(np.searchsorted(edges, values[100:], side="right"), minlength=10)
    assert tally.binned(values, edges.tolist()).tolist() == [*by_search.tolist(), 100]


def test_names_are_counted_by_category_and_what_is_new_among_the_others() -> None:
    schema = InputSchema(
        columns=(Column(name="country", kind="categorical"),), heads=(Head(name="y", labels=("no", "yes")),)
    )
    told = {"country": {"kind": "categorical", "counts": {"DE": 7, "FR": 3}, "other": 0, "missing": 0}}
    layout = layout_of(schema, {"columns": told, "heads": {}})
    rows = np.array([["DE"], ["FR"], ["DE"], ["XX"], [""]], np.object_)
    counts = tally.empty(layout)
    tally.add_columns(layout, counts, schema, _seen(schema, Batch(np.empty((5, 0), np.float32), rows), ()))
    assert counts[layout.places["column", "country"]].tolist() == [2, 1, 1, 1]


def test_of_texts_the_characters_are_counted() -> None:
    schema = InputSchema(
        columns=(Column(name="title", kind="text"),),
        heads=(Head(name="y", labels=("no", "yes")),),
        text=TextInput(template="{title}", longest=100),
    )
    told = {"@characters": {"kind": "numeric", "edges": [2.0, 4.0], "counts": [1, 1, 1], "missing": 0}}
    layout = layout_of(schema, {"columns": told, "heads": {}})
    counts = tally.empty(layout)
    tally.add_columns(layout, counts, schema, _seen(schema, batch_of(["a", "abc", "abcd", "abcde"]), ()))
    assert counts[layout.places["column", "@characters"]].tolist() == [1, 1, 2, 0]


def test_scores_and_labels_are_counted_by_head() -> None:
    schema = InputSchema(columns=SCHEMA.columns, heads=(SCHEMA.heads[0], Head(name="kind", labels=("a", "b", "c"))))
    layout = layout_of(schema, None)
    first = decide(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), schema.heads[0])
    second = decide(np.array([[0.1, 0.2, 0.7], [0.6, 0.2, 0.2]], np.float32), schema.heads[1])
    counts = tally.empty(layout)
    batch = Batch(np.zeros((2, 2), np.float32), np.empty((2, 0), np.object_))
    tally.add_scores(layout, counts, schema, _seen(schema, batch, (first, second)))
    tally.add_labels(layout, counts, "kind", second.indices)
    assert np.flatnonzero(counts[layout.places["scores", "y"]]).tolist() == [2, 16]
    assert counts[layout.places["labels", "kind"]].tolist() == [1, 0, 1]


async def test_counts_of_two_replicas_add_up(session: AsyncSession) -> None:
    one, other = np.arange(LAYOUT.width), np.arange(LAYOUT.width)[::-1]
    async with session.begin():
        await traffic.keep_layout(session, "fraud", 1, LAYOUT)
        await traffic.keep_layout(session, "fraud", 1, LAYOUT)
        await traffic.add(session, "fraud", 1, "active", LAYOUT, one)
        await traffic.add(session, "fraud", 1, "active", LAYOUT, other)
        await traffic.add(session, "fraud", 1, "standby", LAYOUT, other)
    now = datetime.now(UTC)  # not NOW: this module may have been read minutes ago
    seen = await traffic.window(session, "fraud", 1, "active", now - timedelta(minutes=5), now + timedelta(minutes=5))
    assert seen.counts.tolist() == [LAYOUT.width - 1] * LAYOUT.width
    assert seen.requests == LAYOUT.width - 1


@pytest.mark.parametrize("seed", range(6))
async def test_a_window_is_what_one_would_have_counted_minute_by_minute(session: AsyncSession, seed: int) -> None:
    random = np.random.default_rng(seed)
    base = traffic._down(NOW - timedelta(hours=40), "minute")
    minutes = [base + timedelta(minutes=int(m)) for m in random.integers(0, 40 * 60, 300)]
    kept = await _kept(session, minutes, random)
    edges = sorted(base + timedelta(seconds=float(s)) for s in random.uniform(0, 40 * 3600, 2))
    since, until = edges[0], edges[1] if seed else edges[0] + timedelta(minutes=7)
    seen = await traffic.window(session, "fraud", 1, "active", since, until)
    rounded = traffic._down(since, "minute"), traffic._up(until, "minute")
    assert (seen.since, seen.until) == rounded
    wanted = sum((v for at, v in kept.items() if rounded[0] <= at < rounded[1]), np.zeros(LAYOUT.width, np.int64))
    assert (seen.counts if seen.layout else np.zeros(LAYOUT.width, np.int64)).tolist() == wanted.tolist()


async def test_of_long_ago_a_window_is_read_from_what_is_still_kept(session: AsyncSession) -> None:
    random = np.random.default_rng(0)
    base = traffic._down(NOW - timedelta(days=120), "day")
    minutes = [base + timedelta(minutes=int(m)) for m in random.integers(0, 119 * 24 * 60, 200)]
    kept = await _kept(session, minutes, random)
    async with session.begin():
        await traffic.prune(session)
    left = await session.execute(select(TrafficCounts.resolution, func.count()).group_by(TrafficCounts.resolution))
    assert dict(list(left))["day"] > 50
    seen = await traffic.window(session, "fraud", 1, "active", base, NOW)
    assert seen.counts.tolist() == sum(kept.values()).tolist()
    later = NOW - timedelta(days=30, minutes=7)
    seen = await traffic.window(session, "fraud", 1, "active", later, NOW)
    assert seen.since == traffic._down(later, "hour")
    assert seen.counts.tolist() == sum(v for at, v in kept.items() if at >= seen.since).tolist()


@pytest.mark.parametrize("days", [1, 30, 3_000])
def test_a_window_of_any_length_is_covered_by_few_pieces(days: int) -> None:
    since, until = NOW - timedelta(days=days, hours=5, minutes=7), NOW - timedelta(minutes=3)
    _, _, pieces = traffic.cover(since, until, NOW)
    rows = {name: sum((b - a) // traffic.STEPS[name] for of, a, b in pieces if of == name) for name in traffic.STEPS}
    assert rows["minute"] <= 118
    assert rows["hour"] <= 46
    spans = sorted((a, b) for _, a, b in pieces)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))


async def test_silence_is_an_empty_window(session: AsyncSession) -> None:
    seen = await traffic.window(session, "fraud", 9, "active", NOW - timedelta(hours=1), NOW)
    assert (seen.requests, seen.rows, seen.columns, seen.latency_quantile(0.99)) == (0, 0, {}, None)


def test_of_two_layouts_what_has_the_same_bins_is_added() -> None:
    older = Layout({**LAYOUT.told, "latency": [0.1, 1.0]})
    layout, counts = traffic._merged(
        [(older, np.ones(older.width, np.int64)), (LAYOUT, np.ones(LAYOUT.width, np.int64))]
    )
    assert layout is LAYOUT
    assert set(counts[LAYOUT.places["column", "a"]].tolist()) == {2}
    assert set(counts[LAYOUT.places["latency", ""]].tolist()) == {1}


def _seen(schema: InputSchema, batch: Batch, predictions: tuple[Prediction, ...]) -> tally.Seen:
    seen = tally.Seen(schema, 100)
    seen.add(len(batch), batch, predictions)
    return seen


async def _kept(session: AsyncSession, minutes: list[datetime], random: Any) -> dict[datetime, Any]:
    """Random counts of those minutes, with their hours and days, as flushes would have left them."""
    found: dict[datetime, Any] = {}
    for minute in minutes:
        found[minute] = found.get(minute, 0) + random.integers(0, 9, LAYOUT.width)
    rolled: dict[tuple[str, datetime], Any] = {}
    for minute, counts in found.items():
        for step in traffic.STEPS:
            key = step, traffic._down(minute, step)
            rolled[key] = rolled.get(key, 0) + counts
    same = {"model": "fraud", "version": 1, "slot": "active", "layout": LAYOUT.digest}
    rows = [same | {"resolution": step, "at": at, "counts": v.tolist()} for (step, at), v in rolled.items()]
    async with session.begin():
        await traffic.keep_layout(session, "fraud", 1, LAYOUT)
        await session.execute(insert(TrafficCounts), rows)
    return found
