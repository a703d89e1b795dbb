"""Status polling that costs nothing: Refit's answers from memory, beside MLflow's registry and beside plain memory."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from app.cli.embedded import CannotStart
from benchmarks.bench.alone import alone
from benchmarks.bench.load import CLIENT, check_wrk, on
from benchmarks.bench.markdown import table
from benchmarks.bench.registries import SLOTS, STATUS, Read, from_memory, mlflow, of_refit
from benchmarks.bench.setting import Setting
from benchmarks.bench.systems import refit
from benchmarks.peers.environments import Unavailable
from benchmarks.report import Report, progress

CONNECTIONS = 8
ROUNDS = 5
# Of Refit's 304: times the registry of MLflow, and times a FastAPI route that has the same answer in memory.
GOAL_MLFLOW, GOAL_ROUTE = 50.0, 0.8
ROUTE, BARE = "FastAPI route", "bare ASGI"

# Requests a second, one figure a round.
Rates = dict[Read, list[float]]


def measure(setting: Setting, told: Report) -> str:
    """Every way of reading in each round, so that all of them see the same noise; each server has the same core."""
    check_wrk()
    with refit(setting.service, processes=1), ExitStack() as stack:
        reads = [*of_refit(setting, STATUS), *of_refit(setting, SLOTS)]
        for name, application in ((ROUTE, "routed"), (BARE, "bare")):
            reads += stack.enter_context(from_memory(setting, application, name))
        registry = stack.enter_context(_registry(setting, told))
        if registry is not None:
            reads.append(registry)
        rates = _rates(reads, setting)
    _tell(told, rates, registry, judged=setting.is_full)
    return _section(rates, registry)


@contextmanager
def _registry(setting: Setting, told: Report) -> Iterator[Read | None]:
    """None in the short form, and where MLflow cannot be had."""
    with ExitStack() as stack:
        read = None
        if setting.is_full:
            try:
                read = stack.enter_context(mlflow(setting))
            except (Unavailable, CannotStart) as error:
                told.tell(f"no MLflow registry: {error}")
        yield read


def _rates(reads: list[Read], setting: Setting) -> Rates:
    rates: Rates = {read: [] for read in reads}
    rounds = ROUNDS if setting.is_full else 2
    for number in range(rounds):
        progress(f"polling, round {number + 1} of {rounds}")
        for read, found in rates.items():
            found.append(_rate(read, setting.size))
    return rates


def _rate(read: Read, seconds: int) -> float:
    """Requests a second by wrk. Raises RuntimeError where one was refused or lost."""
    read.get()
    headers = [part for name, value in read.headers for part in ("--header", f"{name}: {value}")]
    load = ["--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    command = [*on(CLIENT), "wrk", *load, *headers, read.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec: +([\d.]+)", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk on {read.system} {read.path} ({read.how}): {said}")
    return float(found[1])


def _tell(told: Report, rates: Rates, registry: Read | None, *, judged: bool) -> None:
    """The slower of the two 304s is what counts."""
    unchanged = [read for read in rates if read.status == 304]
    if registry is not None:
        times = min(_ratio(rates, read, registry) for read in unchanged)
        told.tell(f"a 304 {times:.0f} × MLflow's registry", times >= GOAL_MLFLOW or not judged)
    share = min(_ratio(rates, read, _route(rates, read.path)) for read in unchanged)
    told.tell(f"a 304 {share:.2f} × a FastAPI route from memory", share >= GOAL_ROUTE or not judged)


def _section(rates: Rates, registry: Read | None) -> str:
    columns = ["system", "GET", "answered", "requests/s (of rounds)", "× MLflow's registry", "× FastAPI route"]
    lines = [
        [
            read.system,
            read.path,
            read.how,
            f"{median(found):,.0f} ({min(found):,.0f}–{max(found):,.0f})",
            f"{_ratio(rates, read, registry):.1f}" if registry else "–",
            f"{_ratio(rates, read, _route(rates, read.path)):.2f}",
        ]
        for read, found in rates.items()
    ]
    return f"### Status polling, {CONNECTIONS} connections\n\n{table(columns, lines, words=3)}"


def _route(rates: Rates, path: str) -> Read:
    """The FastAPI route that answers the same; for MLflow's the one of the slots, since those it is that it tells."""
    return next(read for read in rates if read.system == ROUTE and read.path in (path, SLOTS))


def _ratio(rates: Rates, read: Read, base: Read) -> float:
    """Raises RuntimeError where the machine was too busy to measure what is compared with."""
    if 0.0 in rates[base]:
        raise RuntimeError(f"{base.system} answered nothing in a whole round")
    return median(one / other for one, other in zip(rates[read], rates[base], strict=True))


if __name__ == "__main__":
    alone("polling", measure)
