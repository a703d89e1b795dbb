"""The drift monitor on columns whose truth is known: how often it calls drift where there is none, and where it is."""

from typing import Any

import numpy as np

from app.monitoring.monitors import State
from app.monitoring.monitors.drift import Options, judge
from app.monitoring.psi import aggregate, shift
from benchmarks.decisions import Figure
from benchmarks.report import report, size

COLUMNS, BINS, REFERENCE = 20, 10, 30_000
SIZES = (200, 1_000, 10_000)
# Half of the columns move by so many standard deviations: an aggregate PSI of about a half.
MOVED = 1.0


def called(draws: int, rows: int, moved: float, *, seed: int) -> float:
    """The share of `draws` in which the monitor is breached."""
    rng = np.random.default_rng(seed)
    edges = np.quantile(rng.normal(size=REFERENCE), np.linspace(0, 1, BINS + 1)[1:-1])
    options = Options()
    breached = 0
    for _ in range(draws):
        windows = [_window(rng, edges, rows, moved) for _ in range(options.windows)]
        breached += judge(options, {"windows": windows, "missing": []}).state == State.BREACHED
    return breached / draws


def _window(rng: np.random.Generator, edges: Any, rows: int, moved: float) -> dict[str, Any]:
    shifts = {}
    for column in range(COLUMNS):
        offset = moved if column % 2 else 0.0
        shifts[f"c{column}"] = shift(_binned(rng, edges, REFERENCE, 0.0), _binned(rng, edges, rows, offset))
    told = {name: vars(each) for name, each in shifts.items()}
    return {"rows": rows, "aggregate": vars(aggregate(shifts)), "columns": told}


def _binned(rng: np.random.Generator, edges: Any, rows: int, offset: float) -> Any:
    return np.bincount(np.searchsorted(edges, rng.normal(offset, 1.0, rows)), minlength=BINS)


def simulate(draws: int) -> list[Figure]:
    found = []
    for rows in SIZES:
        few = max(50, draws * 200 // max(200, rows))
        none = called(few, rows, 0.0, seed=rows)
        real = called(few, rows, MOVED, seed=rows + 1)
        told = f"PSI at n = {rows:,}: drift called in {none:.1%} without and {real:.1%} with it"
        found.append(Figure(told, none <= 0.01 and real >= 0.99))
    return found


if __name__ == "__main__":
    with report("drift") as told:
        for figure in simulate(size(1_000)):
            told.tell(figure.sentence, figure.holds)
