"""`POST /predict/batch` and its like: Refit and the peers, one process and two; Refit's formats; the goals of both."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product

from benchmarks.bench import goals, tables
from benchmarks.bench.alone import alone
from benchmarks.bench.bodies import FORMATS, LISTS, NPY, Named
from benchmarks.bench.load import check_wrk
from benchmarks.bench.rounds import Cell, Found, Trial, check, run
from benchmarks.bench.setting import Setting
from benchmarks.bench.systems import System, keyed, peer, refit
from benchmarks.peers.all import ALWAYS, SERVERS, UNJUDGED
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.model import Version, rows_of, train
from benchmarks.peers.uvicorn import BARE
from benchmarks.report import Report, progress
from benchmarks.service import Service, running

ROWS = (1, 100, 1_000)
CONNECTIONS = (1, 8, 64)
SHORT_CONNECTIONS = (8, 64)
ROUNDS, FEW_ROUNDS = 5, 2


def measure(setting: Setting, told: Report) -> str:
    """The short form has one process, few systems, and no body but lists of 100 rows."""
    check_wrk()
    found = [_found(setting, setting.service, setting.versions[0], 1)]
    if setting.is_full:
        with _two_processes(setting) as (service, version):
            found.append(_found(setting, service, version, 2))
    goals.judge(found, told, judged=setting.is_full)
    sections = [tables.comparison(one) for one in found]
    if setting.is_full:
        sections += [tables.formats(one) for one in found]
    return "\n\n".join(sections)


@contextmanager
def _two_processes(setting: Setting) -> Iterator[tuple[Service, Version]]:
    """Another Refit, with a model of its own."""
    with running("--replicas", "2") as service:
        yield service, train(service, setting.scratch / "versions-of-two")[0]


def _found(setting: Setting, service: Service, version: Version, processes: int) -> Found:
    """First all systems by one body, then Refit by every body, beside the bare application."""
    rows = rows_of(service, max(ROWS))
    found = Found(processes)
    with ExitStack() as stack:
        ours = stack.enter_context(refit(service, processes))
        others = list(_peers(stack, setting, version, rows[:100], found))
        everybody = [ours, *others]
        trials = [
            _lists(system, processes, rows, 100, connections)
            for connections in (CONNECTIONS if setting.is_full else SHORT_CONNECTIONS)
            for system in everybody
        ]
        check(trials, rows, version)
        # One process is what is judged.
        often = ROUNDS if setting.is_full and processes == 1 else FEW_ROUNDS
        found.compared = run(trials, often)
        found.megabytes = {system.name: system.megabytes() for system in everybody}
        found.seconds = {system.name: system.seconds() for system in everybody}
        if setting.is_full:
            [bare] = [system for system in others if system.name == BARE.name]
            trials = list(_bodies(ours, bare, service, processes, rows))
            check(trials, rows, version)
            found.formats = run(trials, often)
    return found


def _peers(stack: ExitStack, setting: Setting, version: Version, rows: Named, found: Found) -> Iterator[System]:
    """Those that can be had, until the stack is closed; `found` is told of the others."""
    for kind in (*ALWAYS, *SERVERS, *UNJUDGED):
        most = kind.most_processes or found.processes
        if kind not in ALWAYS and not setting.is_full:
            found.missing[kind.name] = "left out of the short form"
        elif most < found.processes:
            found.missing[kind.name] = f"runs in {most} process only"
        else:
            try:
                yield stack.enter_context(peer(kind, version, rows, found.processes))
                progress(f"{kind.name} is ready, with {found.processes}")
            except Unavailable as error:
                found.missing[kind.name] = str(error)
                progress(f"{kind.name} {error}")


def _lists(system: System, processes: int, rows: Named, count: int, connections: int) -> Trial:
    cell = Cell(system.name, processes, LISTS, count, connections)
    return Trial(cell, system, system.lists(rows[:count]))


def _bodies(ours: System, bare: System, service: Service, processes: int, rows: Named) -> Iterator[Trial]:
    """Each format of Refit's (npy by one process only), and lists as the bare application reads them."""
    formats = {format: write for format, write in FORMATS.items() if format != NPY or processes == 1}
    for count, connections in product(ROWS, CONNECTIONS):
        for format, write in formats.items():
            cell = Cell(ours.name, processes, format, count, connections)
            yield Trial(cell, ours, keyed(service, write(rows[:count])))
        yield _lists(bare, processes, rows, count, connections)


if __name__ == "__main__":
    alone("throughput", measure)
