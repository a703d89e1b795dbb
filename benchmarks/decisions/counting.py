"""Predictions counted: memory and time stay flat over ten million, and what counting costs `/predict/batch`.

    python -m benchmarks.decisions.counting 10000000 [ROUNDS]

The first part counts in this process, by the counter and the bookkeeping that replicas have, into a Postgres of its
own. The second sends the same requests to two replicas of one service, of which one does not count, in turns; the
figure is the median of the rounds' own ratios, since a round that is slow is so for both.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import psutil
from alembic import command
from alembic.config import Config

from app import db
from app.cli.embedded import postgres
from app.cli.embedded.folder import LOOPBACK, hold, listen_once
from app.runtimes import Batch
from app.runtimes.onnx import decide
from app.runtimes.schema import Column, Head, InputSchema
from app.serving.bookkeeping import Bookkeeping
from app.serving.counting import Counting, Key
from app.serving.directions import Directions
from app.serving.loaded import Loaded
from app.settings import Settings
from app.traffic import service as traffic
from benchmarks.bench import bodies, load
from benchmarks.bench.systems import keyed
from benchmarks.decisions import Figure
from benchmarks.peers import Request
from benchmarks.peers.model import rows_of, train
from benchmarks.report import progress, report, size
from benchmarks.service import Service, is_ready, running, until

ROOT = Path(__file__).parents[2]
COLUMNS, BATCH = 30, 100
PARTS = 10
# How many rows a request has, over how many connections, and whether in the fastest format.
LOADS = ((1, 8, "lists"), (100, 8, "lists"), (100, 64, "lists"), (1_000, 8, "npy"))
ROUNDS, SECONDS = 15, 2
# What counting may take of the throughput, and by how much the last tenth may differ from the first.
MOST_COST, MOST_GROWTH = 0.03, 1.5
MOST_MEGABYTES = 64.0


@dataclass(frozen=True)
class Part:
    """A tenth of the predictions: seconds on a processor to note, count and write, RSS in MiB, reading a window."""

    seconds: float
    megabytes: float
    window_seconds: float


def measure(rows: int) -> list[Part]:
    """Counts so many predictions in this process."""
    with (
        TemporaryDirectory(prefix="refit-counting-") as folder,
        hold(Path(folder)) as held,
        postgres.running(held) as url,
    ):
        config = Config(ROOT / "migrations" / "alembic.ini")
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        command.upgrade(config, "head")
        return asyncio.run(_count(Settings(database_url=url), rows))


async def _count(settings: Settings, rows: int) -> list[Part]:
    engine = db.create_engine(settings)
    sessions = db.create_sessions(engine)
    counting = Counting()
    books = Bookkeeping(settings, sessions, counting, Directions(sessions))
    parts = [await _part(sessions, counting, books, rows // PARTS) for _ in range(PARTS)]
    async with sessions() as session:
        seen = await _window(session)
    assert (seen.rows, int(seen.labels["y"].sum())) == (rows, rows), "a prediction was not counted"
    await engine.dispose()
    return parts


async def _part(sessions: Any, counting: Counting, books: Bookkeeping, rows: int) -> Part:
    version, batch, predictions = _version()
    ledger = counting.ledger_of(Key("fraud", 1, 1, "active"), version)
    began = time.process_time()
    for place in range(rows // BATCH):
        ledger.note(batch, predictions, 0.0007)
        # As many as a second brings.
        if place % 2_000 == 1_999:
            await books.flush()
    await books.flush()
    seconds = time.process_time() - began
    async with sessions() as session:
        before = time.perf_counter()
        await _window(session)
        window_seconds = time.perf_counter() - before
    part = Part(seconds, psutil.Process().memory_info().rss / 2**20, window_seconds)
    progress(
        f"{rows:,} rows: {part.seconds:.2f} s, {part.megabytes:.0f} MiB, window {part.window_seconds * 1e3:.1f} ms"
    )
    return part


async def _window(session: Any) -> traffic.Traffic:
    now = datetime.now(UTC)
    return await traffic.window(session, "fraud", 1, "active", now - timedelta(hours=30), now + timedelta(minutes=2))


def _version() -> tuple[Loaded, Batch, Any]:
    names = [f"c{place}" for place in range(COLUMNS)]
    head = Head(name="y", labels=("no", "yes"), threshold=0.5)
    schema = InputSchema(columns=tuple(Column(name=name, kind="numeric") for name in names), heads=(head,))
    random = np.random.default_rng(0)
    edges = np.linspace(-1.3, 1.3, 9).astype(np.float32).tolist()
    told = {"kind": "numeric", "edges": edges, "counts": [1] * 10, "missing": 0}
    profile = {"columns": dict.fromkeys(names, told), "heads": {}}
    predictor = cast("Any", type("OfTheBenchmark", (), {"schema": schema, "is_quick": True})())
    positive = random.random((BATCH, 1), np.float32)
    predictions = (decide(np.hstack([1 - positive, positive]), head),)
    batch = Batch(random.normal(size=(BATCH, COLUMNS)).astype(np.float32), np.empty((BATCH, 0), np.object_))
    return Loaded(1, predictor, {"passed": True}, profile), batch, predictions


@dataclass(frozen=True)
class Replica:
    url: str
    process: psutil.Process

    @property
    def seconds(self) -> float:
        """On a processor, all of its threads."""
        times = self.process.cpu_times()
        return times.user + times.system


@dataclass(frozen=True)
class Round:
    """Requests a second, and microseconds on a processor for each."""

    rate: float
    micros: float
    wrong: int


@dataclass(frozen=True)
class Cost:
    """What counting costs: medians of each side, and the medians of the rounds' ratios."""

    on: Sequence[Round]
    off: Sequence[Round]

    @property
    def of_throughput(self) -> float:
        return 1 - median(a.rate / b.rate for a, b in zip(self.on, self.off, strict=True))

    @property
    def of_processor(self) -> float:
        return median(a.micros / b.micros for a, b in zip(self.on, self.off, strict=True)) - 1

    @property
    def wrong(self) -> int:
        return sum(one.wrong for one in (*self.on, *self.off))


def cost(request: Request, connections: int, rounds: int, replicas: tuple[Replica, Replica]) -> Cost:
    """`replicas` are the one that counts and the one that does not."""
    told: tuple[list[Round], list[Round]] = ([], [])
    for number in range(rounds):
        # Who is second meets a warmer processor: they take turns at it.
        for place in (0, 1) if number % 2 else (1, 0):
            told[place].append(_round(request, connections, replicas[place]))
    return Cost(*told)


def _round(request: Request, connections: int, replica: Replica) -> Round:
    before = replica.seconds
    seen = load.measure(replica.url, request, connections, SECONDS)
    return Round(seen.rate, (replica.seconds - before) / (seen.rate * SECONDS) * 1e6, seen.wrong)


@contextmanager
def replica_of(service: Service, **settings: str) -> Iterator[Replica]:
    """One more replica of the service, on the server's core."""
    api = service.processes("app.main")[0]
    told = {name: value for name, value in api.environ().items() if name != "REFIT_LISTEN_FD"}
    port = listen_once(LOOPBACK, 0)
    url = f"http://{LOOPBACK}:{port}"
    command = [*load.on(load.SERVER), sys.executable, "-P", "-m", "app.main"]
    with subprocess.Popen(
        command,
        env=told | {"REFIT_COUNTING": "on", "REFIT_PORT": str(port)} | settings,
        cwd=os.sep,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until(lambda: is_ready(url), "a replica that is ready")
            yield Replica(url, psutil.Process(process.pid))
        finally:
            process.terminate()


def figures(rows: int, rounds: int = ROUNDS) -> list[Figure]:
    """What counting costs in a process that does nothing else, and what it costs the requests of a service."""
    return [*_of_parts(rows, measure(rows)), *_of_requests(rounds)]


def _of_parts(rows: int, parts: Sequence[Part]) -> Iterator[Figure]:
    seconds = [part.seconds for part in parts[1:]]
    yield Figure(f"{rows:,} predictions counted at {sum(p.seconds for p in parts) / rows * 1e9:.0f} ns each")
    growth = median(seconds[-3:]) / median(seconds[:3])
    yield Figure(f"time of a tenth {median(seconds):.2f} s (last to first {growth:.2f})", growth < MOST_GROWTH)
    grown = parts[-1].megabytes - parts[1].megabytes
    told = f"RSS {parts[-1].megabytes:.0f} MiB ({grown:+.0f} since the second tenth)"
    yield Figure(told, grown < MOST_MEGABYTES)
    windows = [part.window_seconds for part in parts]
    yield Figure(f"a window read in {median(windows[-3:]) * 1e3:.1f} ms (at first {median(windows[:3]) * 1e3:.1f})")


def _of_requests(rounds: int) -> Iterator[Figure]:
    load.check_wrk()
    with running() as service, TemporaryDirectory() as scratch:
        train(service, Path(scratch))
        with replica_of(service) as on, replica_of(service, REFIT_COUNTING="off") as off:
            known = rows_of(service, 1_000)
            for count, connections, format in LOADS:
                request = keyed(service, getattr(bodies, format)(known[:count]))
                cost(request, connections, 1, (on, off))
                yield _of_cost(
                    f"{count} rows as {format} over {connections}", cost(request, connections, rounds, (on, off))
                )


def _of_cost(what: str, found: Cost) -> Figure:
    on, off = (median(one.rate for one in side) for side in (found.on, found.off))
    micros = median(one.micros for one in found.on), median(one.micros for one in found.off)
    told = (
        f"{what}: {on:,.0f} of {off:,.0f} requests/s (counting costs {found.of_throughput:.1%}), "
        f"{micros[0]:,.0f} of {micros[1]:,.0f} µs on a processor ({found.of_processor:+.1%})"
    )
    return Figure(told, found.of_throughput <= MOST_COST and not found.wrong)


if __name__ == "__main__":
    with report("counting") as told:
        for figure in figures(size(10_000_000), int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS):
            told.tell(figure.sentence, figure.holds)
