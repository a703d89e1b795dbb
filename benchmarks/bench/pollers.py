"""A thousand dashboards that look once a second leave the latency of predictions as it was."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import orjson
import psutil
import uvloop

from benchmarks.bench.alone import alone
from benchmarks.bench.dashboards import Seen
from benchmarks.bench.load import CLIENT, on, pinned
from benchmarks.bench.markdown import table
from benchmarks.bench.setting import Setting
from benchmarks.bench.systems import plain, refit
from benchmarks.client import Answer, Lost, connected, steady
from benchmarks.peers.launch import PROJECT
from benchmarks.peers.model import MODEL_NAME, rows_of
from benchmarks.report import Report, p99, progress
from benchmarks.service import Service

POLLERS = 1_000
ROWS = 100
RATE, CONNECTIONS = 200.0, 8
ROUNDS = 10
WARM_UP_SECONDS = 1.0
# What "as it was" means at the 99th percentile, which the noise of two cores alone moves by a tenth.
GOAL = 1.2
OPEN_FILES = 16_384


@dataclass(frozen=True)
class Round:
    """Predictions of one round, in milliseconds from when each was due; `failed` of them got no 200."""

    p50: float
    p99: float
    failed: int


@dataclass(frozen=True)
class Pair:
    """A round without pollers and the one beside them that followed at once."""

    without: Round
    beside: Round


def measure(setting: Setting, told: Report) -> str:
    """Rounds with and without pollers in turns; what is compared are neighbours."""
    _allow_connections(setting.service)
    seen: Seen = Counter()
    with refit(setting.service, processes=1):  # a core of its own, and the dashboards the other
        pairs = [_pair(setting, seen, number) for number in range(1, 1 + (ROUNDS if setting.is_full else 2))]
    _tell(told, pairs, seen, judged=setting.is_full)
    return _section(pairs, seen)


def _allow_connections(service: Service) -> None:
    """The replicas inherited the soft limit of a shell, often 1,024 descriptors; a service is given more."""
    for replica in service.processes("app.main"):
        _, most = replica.rlimit(psutil.RLIMIT_NOFILE)
        replica.rlimit(psutil.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))


def _pair(setting: Setting, seen: Seen, number: int) -> Pair:
    without = _predict(setting)
    with _polled(setting.service, seen):
        beside = _predict(setting)
    progress(f"pollers, round {number}: p99 {without.p99:.1f} ms, beside them {beside.p99:.1f} ms")
    return Pair(without, beside)


def _predict(setting: Setting) -> Round:
    with pinned(CLIENT):
        ended = uvloop.run(_load(setting.service, WARM_UP_SECONDS, setting.size))
    took = [one.seconds * 1e3 for one in ended if isinstance(one, Answer) and one.status == 200]
    return Round(median(took), p99(took), len(ended) - len(took))


async def _load(service: Service, *seconds: float) -> list[Answer | Lost]:
    """Predictions at a constant rate for each of these times in turn; how those of the last one ended."""
    headers = [("Authorization", f"Bearer {service.key}"), ("Content-Type", "application/json")]
    async with connected(service.url, CONNECTIONS, headers) as connections:
        body = orjson.dumps({"model": MODEL_NAME, "instances": plain(rows_of(service, ROWS))})
        message = connections[0].message("POST", "/predict/batch", body)
        for last in seconds:
            ended = await steady(connections, RATE, last, lambda connection: connection.exchange(message))
    return ended


@contextmanager
def _polled(service: Service, seen: Seen) -> Iterator[None]:
    """Dashboards poll while the block runs; what they were answered is added to `seen`.

    They are elsewhere in truth and only here share a core with the client that is timed, so they give way to it.
    """
    module = ["chrt", "--idle", "0", sys.executable, "-m", "benchmarks.bench.dashboards"]
    command = [*on(CLIENT), *module, service.url, MODEL_NAME, str(POLLERS)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as dashboards:
        assert dashboards.stdin is not None
        assert dashboards.stdout is not None
        print(service.key, file=dashboards.stdin, flush=True)
        if dashboards.stdout.readline() != "ready\n":
            raise RuntimeError("the dashboards did not start")
        yield
        said, _ = dashboards.communicate()  # closes their input
        seen.update(json.loads(said))


def _tell(told: Report, pairs: list[Pair], seen: Seen, *, judged: bool) -> None:
    ratio = median(pair.beside.p99 / pair.without.p99 for pair in pairs)
    told.tell(f"prediction p99 beside {POLLERS:,} pollers {ratio:.2f} × without", ratio <= GOAL or not judged)
    failed = sum(pair.without.failed + pair.beside.failed for pair in pairs)
    unanswered = seen.total() - seen["200"] - seen["304"]
    told.tell(f"{failed} predictions and {unanswered} of {seen.total():,} polls failed", (failed, unanswered) == (0, 0))


def _section(pairs: list[Pair], seen: Seen) -> str:
    heading = (
        f"### Predictions beside {POLLERS:,} pollers: {ROWS} rows, {RATE:.0f} requests/s, {CONNECTIONS} connections"
    )
    columns = ["of a prediction", "without (ms)", "beside them (ms)", "ratio (of rounds)"]
    lines = [
        _cells("p50", [(pair.without.p50, pair.beside.p50) for pair in pairs]),
        _cells("p99", [(pair.without.p99, pair.beside.p99) for pair in pairs]),
    ]
    polls = f"{seen.total():,} polls, one a second and connection: {seen['304']:,} answered 304, {seen['200']:,} 200."
    return f"{heading}\n\n{table(columns, lines)}\n\n{polls}"


def _cells(name: str, found: list[tuple[float, float]]) -> list[str]:
    without, beside = zip(*found, strict=True)
    ratios = [high / low for low, high in found]
    spread = f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return [name, f"{median(without):.1f}", f"{median(beside):.1f}", spread]


if __name__ == "__main__":
    alone("pollers", measure)
