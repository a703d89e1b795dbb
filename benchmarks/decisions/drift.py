"""The drift monitor on columns whose truth is known: how often it calls drift where there is none, and where there is."""

import sys
from typing import Any

import numpy as np

from app.monitoring.monitors import State
from app.monitoring.monitors.drift import Options, judge
from app.monitoring.psi import aggregate, shift
from benchmarks.report import Report, report, size

COLUMNS, BINS, REFERENCE = 20, 10, 30_000
SIZES = (200, 1_000, 10_000)
# Half of the columns move by so many standard deviations: an aggregate PSI of about a half.
MOVED = 1.0


def simulate(draws: int, rows: int, moved: float, *, seed: int) -> tuple[float, float]:
    """The shares of `draws` in which the monitor is breached, and a naive PSI beyond the same limit even once."""
    rng = np.random.default_rng(seed)
    edges = np.quantile(rng.normal(size=REFERENCE), np.linspace(0, 1, BINS + 1)[1:-1])
    options = Options()
    called, naive = 0, 0
    for _ in range(draws):
        windows = [_window(rng, edges, rows, moved) for _ in range(options.windows)]
        called += judge(options, {"windows": windows}).state == State.BREACHED
        naive += windows[0]["aggregate"]["psi"] > options.max_psi
    return called / draws, naive / draws


def _window(rng: np.random.Generator, edges: Any, rows: int, moved: float) -> dict[str, Any]:
    shifts = {}
    for column in range(COLUMNS):
        offset = moved if column % 2 else 0.0
        shifts[f"c{column}"] = shift(_binned(rng, edges, REFERENCE, 0.0), _binned(rng, edges, rows, offset))
    told = {name: vars(each) for name, each in shifts.items()}
    return {"rows": rows, "aggregate": vars(aggregate(shifts)), "columns": told}


def _binned(rng: np.random.Generator, edges: Any, rows: int, offset: float) -> Any:
    return np.bincount(np.searchsorted(edges, rng.normal(offset, 1.0, rows)), minlength=BINS)


def tell(told: Report, draws: int) -> None:
    for rows in SIZES:
        few = max(50, draws * 200 // max(200, rows))
        none, _ = simulate(few, rows, 0.0, seed=rows)
        real, _ = simulate(few, rows, MOVED, seed=rows + 1)
        told.tell(
            f"PSI at n = {rows:,}: drift called in {none:.1%} without and {real:.1%} with it",
            none <= 0.01 and real >= 0.99,
        )


def main() -> None:
    with report("drift") as told:
        tell(told, size(1_000))


if __name__ == "__main__":
    sys.exit(main())
