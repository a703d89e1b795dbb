"""Systems measured in turns, so that all of them see the same noise; medians and spread."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.bench.bodies import Named
from benchmarks.bench.load import Load, measure
from benchmarks.bench.systems import System
from benchmarks.peers import Request
from benchmarks.peers.model import Version
from benchmarks.report import progress

WARM_CONNECTIONS = 8
# Many short rounds tell more than few long ones where the noise changes from second to second.
SECONDS = 1


@dataclass(frozen=True)
class Cell:
    """One figure of a table: so many rows of a format, over so many connections to so many processes of a system."""

    system: str
    processes: int
    format: str
    rows: int
    connections: int


@dataclass(frozen=True)
class Measured:
    """What each round saw."""

    rounds: Sequence[Load]
    kilobytes: float

    @property
    def rate(self) -> float:
        return median(load.rate for load in self.rounds)

    @property
    def p99(self) -> float:
        return median(load.p99 for load in self.rounds)

    def times(self, other: "Measured") -> float:
        """How many times the other's rate: the median of the rounds' own ratios, since a round is slow for both."""
        return median(ours.rate / theirs.rate for ours, theirs in zip(self.rounds, other.rounds, strict=True))

    def p99_times(self, other: "Measured") -> float:
        return median(ours.p99 / theirs.p99 for ours, theirs in zip(self.rounds, other.rounds, strict=True))

    @property
    def wrong(self) -> int:
        return sum(load.wrong for load in self.rounds)

    def spread(self) -> str:
        rates = [load.rate for load in self.rounds]
        told = f"{self.rate:,.0f} ({min(rates):,.0f}–{max(rates):,.0f})"
        return f"{told} [!] {self.wrong} wrong" if self.wrong else told


@dataclass(frozen=True)
class Trial:
    """How a cell is measured."""

    cell: Cell
    system: System
    request: Request


Results = dict[Cell, Measured]


@dataclass
class Found:
    """Of one number of processes: what was measured, what could not be had and why, MiB after the load, start-up.

    All systems by the same body are `compared`; `formats` are Refit's bodies, measured later and compared only with
    each other and with what was measured beside them.
    """

    processes: int
    compared: Results = field(default_factory=dict)
    formats: Results = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    megabytes: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def check(trials: Sequence[Trial], rows: Named, version: Version) -> None:
    """Each system answers each kind of request once, and then a second of them. Raises RuntimeError."""
    for trial in {(t.cell.system, t.cell.format, t.cell.rows): t for t in trials}.values():
        with trial.system.awake():
            trial.system.check(trial.request, rows[: trial.cell.rows], version)
    for trial in {t.cell.system: t for t in trials}.values():
        with trial.system.awake():
            measure(trial.system.url, trial.request, WARM_CONNECTIONS, 1)


def run(trials: Sequence[Trial], rounds: int) -> Results:
    """Every trial once a round, in the order given: the systems that are compared stand beside each other."""
    loads: dict[Cell, list[Load]] = {trial.cell: [] for trial in trials}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: {len(trials)} cells of {SECONDS} s")
        for trial in trials:
            loads[trial.cell].append(_measure(trial))
    return {trial.cell: Measured(loads[trial.cell], len(trial.request.body) / 1000) for trial in trials}


def _measure(trial: Trial) -> Load:
    """Two processes share all cores with the client; one is measured apart from it."""
    apart = trial.cell.processes == 1
    with trial.system.awake():
        return measure(trial.system.url, trial.request, trial.cell.connections, SECONDS, apart=apart)
