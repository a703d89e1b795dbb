"""What versions answered, kept as vectors that add up: over replicas, minutes, hours and days.

Each flush adds to its minute, its hour and its day in one statement, so a window of any length is read from the few
days, hours and minutes that cover it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import CursorResult, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.traffic.layout import TOTALS, Layout, Place
from app.traffic.tables import TrafficLayout

Counts = npt.NDArray[np.int64]

MINUTES_KEPT, HOURS_KEPT = timedelta(days=2), timedelta(days=90)
CLOCKS_APART = timedelta(hours=6)
STEPS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}

ADD = text("""
    WITH clock AS (SELECT clock_timestamp() AS at)
    INSERT INTO traffic AS kept (model, version, slot, resolution, at, layout, counts)
    SELECT :model, :version, :slot, step.resolution, date_trunc(step.resolution, clock.at, 'UTC'), :layout,
           CAST(:counts AS bigint[])
    FROM clock, (VALUES ('minute'), ('hour'), ('day')) AS step (resolution)
    ON CONFLICT (model, version, slot, resolution, at, layout) DO UPDATE SET counts = (
        SELECT array_agg(one.a + one.b ORDER BY one.place)
        FROM unnest(kept.counts, excluded.counts) WITH ORDINALITY AS one (a, b, place))
""")
SUM = text("""
    WITH covered AS (
        SELECT * FROM unnest(CAST(:resolutions AS text[]), CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[]))
            AS covered (resolution, since, until))
    SELECT summed.layout, array_agg(summed.total ORDER BY summed.place)
    FROM (
        SELECT traffic.layout, one.place, CAST(sum(one.value) AS bigint) AS total
        FROM covered JOIN traffic ON traffic.model = :model AND traffic.version = :version AND traffic.slot = :slot
            AND traffic.resolution = covered.resolution AND traffic.at >= covered.since AND traffic.at < covered.until,
            unnest(traffic.counts) WITH ORDINALITY AS one (value, place)
        GROUP BY traffic.layout, one.place) AS summed
    GROUP BY summed.layout
""")
LAYOUTS = text("SELECT digest, told FROM traffic_layouts WHERE model = :model AND version = :version ORDER BY at")
PRUNE = text("""
    DELETE FROM traffic
    WHERE (resolution = 'minute' AND at < clock_timestamp() - CAST(:minutes AS interval))
       OR (resolution = 'hour' AND at < clock_timestamp() - CAST(:hours AS interval))
""")


@dataclass(frozen=True)
class Traffic:
    """What a version answered in [since, until): whole minutes. Every array is a view of `counts`, int64.

    `layout` says what the bins are; it is None where the version has never answered, and then all is empty.
    """

    model: str
    version: int
    slot: str
    since: datetime
    until: datetime
    layout: Layout | None
    counts: Counts

    @property
    def requests(self) -> int:
        return self._total("requests")

    @property
    def rows(self) -> int:
        return self._total("rows")

    @property
    def skipped(self) -> int:
        """Rows that are in no column and no scores: of columns `rows - skipped` were counted."""
        return self._total("skipped")

    @property
    def errors(self) -> int:
        """Requests that the version failed to answer (5xx)."""
        return self._total("errors")

    @property
    def invalid(self) -> int:
        """Requests that were refused because of their rows (4xx)."""
        return self._total("invalid")

    @property
    def columns(self) -> dict[str, Counts]:
        """By column: its bins, then missing; or its categories, then other, then missing."""
        return self._named("column")

    @property
    def scores(self) -> dict[str, Counts]:
        """By head: rows by bins of the score; the edges are `layout.told["heads"][head]["edges"]`."""
        return self._named("scores")

    @property
    def labels(self) -> dict[str, Counts]:
        """By head: rows by the label given, in the order of the head's labels."""
        return self._named("labels")

    @property
    def latency(self) -> Counts:
        """Requests by bins of `app.traffic.layout.LATENCY`, seconds."""
        return self._named("latency").get("", np.zeros(0, np.int64))

    def latency_quantile(self, q: float) -> float | None:
        """The upper edge of the bin in which the q-quantile lies, seconds; None without requests."""
        counts = self.latency
        if self.layout is None or not counts.sum():
            return None
        edges = self.layout.told["latency"]
        place = int(np.searchsorted(np.cumsum(counts), q * counts.sum()))
        return float(edges[min(place, len(edges) - 1)])

    def mean_score(self, head: str) -> float | None:
        """Of the bins' middles, so right to half a bin; None without scores."""
        counts = self.scores.get(head)
        if counts is None or not counts.sum():
            return None
        return float(np.average(self._middles(head), weights=counts))

    def mean_confidence(self, head: str | None = None) -> float | None:
        """The mean probability of the label that was given, likewise; unset: of the first head."""
        counts = self.scores.get(head := head or self._first_head)
        if self.layout is None or counts is None or not counts.sum():
            return None
        middles = self._middles(head)
        two = len(self.layout.told["heads"][head]["labels"]) == 2
        return float(np.average(np.maximum(middles, 1 - middles) if two else middles, weights=counts))

    @property
    def _first_head(self) -> str:
        return str(next(iter(self.layout.told["order"]), "")) if self.layout else ""

    def _middles(self, head: str) -> npt.NDArray[np.float64]:
        assert self.layout is not None
        edges = np.array([0.0, *self.layout.told["heads"][head]["edges"], 1.0])
        middles: npt.NDArray[np.float64] = (edges[1:] + edges[:-1]) / 2
        return middles

    def _total(self, name: str) -> int:
        return int(self.counts[TOTALS.index(name)]) if self.layout else 0

    def _named(self, kind: str) -> dict[str, Counts]:
        places = self.layout.places if self.layout else {}
        return {name: self.counts[place] for (of, name), place in places.items() if of == kind}


async def keep_layout(session: AsyncSession, model: str, version: int, layout: Layout) -> None:
    """Before the first counts. The same layout again changes nothing."""
    values = {"model": model, "version": version, "digest": layout.digest, "told": dict(layout.told)}
    await session.execute(insert(TrafficLayout).values(values).on_conflict_do_nothing())


async def add(session: AsyncSession, model: str, version: int, slot: str, layout: Layout, counts: Counts) -> None:
    """Adds what was counted to the present minute, hour and day. Who adds several does so in the order of keys."""
    key = {"model": model, "version": version, "slot": slot, "layout": layout.digest}
    await session.execute(ADD, key | {"counts": counts.tolist()})


async def layouts(session: AsyncSession, model: str, version: int) -> dict[str, Layout]:
    """The layouts by which a version was counted, by digest, the newest last: one, unless Refit changed its bins."""
    found = await session.execute(LAYOUTS, {"model": model, "version": version})
    return {digest: Layout(told) for digest, told in found}


async def window(
    session: AsyncSession, model: str, version: int, slot: str, since: datetime, until: datetime
) -> Traffic:
    """What was counted in [since, until), both rounded outwards to whole minutes; beyond two days ago to hours, and
    beyond ninety days to days, as finer counts are gone. Slots: active, standby, canary, shadow."""
    since, until, pieces = cover(since, until, datetime.now(UTC))
    asked = {
        "model": model,
        "version": version,
        "slot": slot,
        "resolutions": [resolution for resolution, _, _ in pieces],
        "since": [begin for _, begin, _ in pieces],
        "until": [end for _, _, end in pieces],
    }
    sums = {digest: np.array(counts, np.int64) for digest, counts in await session.execute(SUM, asked)}
    known = {digest: layout for digest, layout in (await layouts(session, model, version)).items() if digest in sums}
    if not known:
        return Traffic(model, version, slot, since, until, None, np.zeros(0, np.int64))
    layout, counts = _merged([(known[digest], sums[digest]) for digest in known])
    return Traffic(model, version, slot, since, until, layout, counts)


def cover(
    since: datetime, until: datetime, now: datetime
) -> tuple[datetime, datetime, list[tuple[str, datetime, datetime]]]:
    """The rounded window, and the pieces (resolution, since, until) that cover it: coarse within, fine at its ends."""
    since, until = _down(since, _finest(since, now)), _up(until, _finest(until, now))
    first, last = _up(since, "hour"), _down(until, "hour")
    if first >= last:
        return since, until, [("minute", since, until)]
    outer = [("minute", since, first), ("minute", last, until)]
    begin, end = _up(first, "day"), _down(last, "day")
    inner = (
        [("hour", first, last)] if begin >= end else [("hour", first, begin), ("day", begin, end), ("hour", end, last)]
    )
    return since, until, [piece for piece in (*outer, *inner) if piece[1] < piece[2]]


async def prune(session: AsyncSession) -> int:
    """How many rows went: minutes of more than two days ago, hours of more than ninety. Days are kept."""
    kept = {"minutes": MINUTES_KEPT, "hours": HOURS_KEPT}
    return cast("CursorResult[Any]", await session.execute(PRUNE, kept)).rowcount


def _finest(at: datetime, now: datetime) -> str:
    """What is surely still kept of that time, also where the clocks of two machines are hours apart."""
    age = now - at + CLOCKS_APART
    return "minute" if age < MINUTES_KEPT else "hour" if age < HOURS_KEPT else "day"


def _down(at: datetime, resolution: str) -> datetime:
    step = STEPS[resolution]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (at - epoch) // step * step


def _up(at: datetime, resolution: str) -> datetime:
    down = _down(at, resolution)
    return down if down == at else down + STEPS[resolution]


def _merged(found: Sequence[tuple[Layout, Counts]]) -> tuple[Layout, Counts]:
    """By the newest layout; of older ones what has the same bins."""
    layout, counts = found[-1]
    counts = counts.copy()
    for older, others in found[:-1]:
        for place, where in layout.places.items():
            if place in older.places and _bins(older, place) == _bins(layout, place):
                counts[where] += others[older.places[place]]
    return layout, counts


def _bins(layout: Layout, place: Place) -> Any:
    kind, name = place
    if kind == "column":
        return layout.told["columns"][name]
    return layout.told["heads"][name] if name else layout.told["latency"] if kind == "latency" else None
