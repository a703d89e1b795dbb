"""What `POST /predict/batch` must reach, in the same run as what it is compared with."""

from collections.abc import Sequence

from benchmarks.bench.bodies import ARROW, LISTS, NPY, OBJECTS
from benchmarks.bench.rounds import Found, Measured
from benchmarks.bench.systems import REFIT
from benchmarks.peers.all import NAMED
from benchmarks.peers.uvicorn import BARE
from benchmarks.report import Report

TIMES_BARE, TIMES_NAMED, P99_TIMES_BARE = 1.2, 6.0, 1.5
OBJECTS_TIMES_LISTS, BINARY_TIMES_LISTS = 0.5, 3.0


def judge(found: Sequence[Found], told: Report, *, judged: bool) -> None:
    """Every answer must be right, however short the run; ratios are told always and judged in long ones only."""
    wrong = sum(measured.wrong for one in found for measured in one.results.values())
    cells = sum(len(one.results) for one in found)
    told.tell(f"{wrong} wrong answers in {cells} cells", wrong == 0)
    one = found[0]
    ours, bare = _of(one, REFIT), _of(one, BARE.name)
    times = ours.rate / bare.rate
    told.tell(f"{ours.rate:,.0f} requests/s, {times:.2f} × bare", times >= TIMES_BARE or not judged)
    name, best = max(((kind.name, _rate(one, kind.name)) for kind in NAMED), key=lambda named: named[1])
    times = ours.rate / best
    told.tell(f"{times:.1f} × {name}", times >= TIMES_NAMED or not judged)
    times = _of(one, REFIT, connections=8).p99 / _of(one, BARE.name, connections=8).p99
    told.tell(f"p99 at 8 connections {times:.2f} × bare", times <= P99_TIMES_BARE or not judged)
    if judged:
        _judge_formats(one, told)


def _judge_formats(one: Found, told: Report) -> None:
    times = _of(one, REFIT, OBJECTS).rate / _of(one, REFIT, LISTS).rate
    told.tell(f"objects {times:.2f} × lists", times >= OBJECTS_TIMES_LISTS)
    for format in (ARROW, NPY):
        times = _of(one, REFIT, format, 1_000).rate / _of(one, REFIT, LISTS, 1_000).rate
        told.tell(f"{format} {times:.1f} × lists at 1,000 rows", times >= BINARY_TIMES_LISTS)


def _of(one: Found, system: str, format: str = LISTS, rows: int = 100, connections: int = 64) -> Measured:
    measured = one.of(system, format, rows, connections)
    assert measured is not None
    return measured


def _rate(one: Found, system: str) -> float:
    """0 for a peer that could not be had: it is told of in the table."""
    measured = one.of(system, LISTS, 100, 64)
    return measured.rate if measured else 0.0
