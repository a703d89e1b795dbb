"""What `POST /predict/batch` must reach, in the same run as what it is compared with."""

from collections.abc import Sequence

from benchmarks.bench.bodies import ARROW, LISTS, NPY, OBJECTS
from benchmarks.bench.rounds import Cell, Found, Measured, Results
from benchmarks.bench.systems import REFIT
from benchmarks.peers.all import NAMED, UNJUDGED
from benchmarks.peers.uvicorn import BARE
from benchmarks.report import Report

TIMES_BARE, TIMES_NAMED, P99_TIMES_BARE = 1.2, 6.0, 1.5
OBJECTS_TIMES_LISTS, BINARY_TIMES_LISTS = 0.5, 3.0


def judge(found: Sequence[Found], told: Report, *, judged: bool) -> None:
    """Every answer must be right, however short the run; ratios are told always and judged in long ones only."""
    measured = [measured for one in found for measured in (*one.compared.values(), *one.formats.values())]
    wrong = sum(one.wrong for one in measured)
    told.tell(f"{wrong} wrong answers in {len(measured)} cells", wrong == 0)
    compared = found[0].compared
    ours, bare = _of(compared, REFIT), _of(compared, BARE.name)
    times = ours.times(bare)
    told.tell(f"{ours.rate:,.0f} requests/s, {times:.2f} × bare", times >= TIMES_BARE or not judged)
    named = {cell.system for cell in compared} & {kind.name for kind in NAMED}
    best = max(named, key=lambda name: _of(compared, name).rate)
    times = ours.times(_of(compared, best))
    told.tell(f"{times:.1f} × {best}", times >= TIMES_NAMED or not judged)
    for kind in UNJUDGED:
        if Cell(kind.name, 1, LISTS, 100, 64) in compared:
            told.tell(f"{ours.times(_of(compared, kind.name)):.1f} × {kind.name}")
    times = _of(compared, REFIT, connections=8).p99_times(_of(compared, BARE.name, connections=8))
    told.tell(f"p99 at 8 connections {times:.2f} × bare", times <= P99_TIMES_BARE or not judged)
    if judged:
        _judge_formats(found[0].formats, told)


def _judge_formats(formats: Results, told: Report) -> None:
    times = _of(formats, REFIT, OBJECTS).times(_of(formats, REFIT))
    told.tell(f"objects {times:.2f} × lists", times >= OBJECTS_TIMES_LISTS)
    for format in (ARROW, NPY):
        times = _of(formats, REFIT, format, 1_000).times(_of(formats, REFIT, LISTS, 1_000))
        told.tell(f"{format} {times:.1f} × lists at 1,000 rows", times >= BINARY_TIMES_LISTS)


def _of(results: Results, system: str, format: str = LISTS, rows: int = 100, connections: int = 64) -> Measured:
    return results[Cell(system, 1, format, rows, connections)]
