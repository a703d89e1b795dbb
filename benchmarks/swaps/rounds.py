"""A round: a block of changes under load, and a block of the same load without any."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Answer, Connection, Lost, steady
from benchmarks.service import Service
from benchmarks.swaps.changes import Change, Fleet, reload, rollback
from benchmarks.swaps.versions import Versions

# Predictions a second.
RATE = 150
# A change is due this often, and waits for the one before it.
CHANGE_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Round:
    """The changes, the answers `during` them and those `between` them and the next ones."""

    changes: Sequence[Change]
    during: Sequence[Answer | Lost]
    between: Sequence[Answer | Lost]


async def play(fleet: Fleet, versions: Versions, changes: int) -> Round:
    """So many changes, then half as long none."""
    message = fleet.load[0].message("POST", "/predict/batch", versions.body)

    async def ask(connection: Connection) -> Answer:
        return await connection.exchange(message)

    began = time.monotonic()
    over = asyncio.Event()
    load = asyncio.create_task(steady(fleet.load, RATE, over, ask))
    try:
        made = await _make(fleet, changes)
    finally:
        over.set()
        during = await load
    return Round(made, during, await steady(fleet.load, RATE, (time.monotonic() - began) / 2, ask))


async def _make(fleet: Fleet, changes: int) -> list[Change]:
    """Reload and rollback in turn, each asked of the next replica."""
    began = time.monotonic()
    made = []
    for number, operator in zip(range(changes), itertools.cycle(fleet.operators), strict=False):
        await asyncio.sleep(began + number * CHANGE_EVERY_SECONDS - time.monotonic())
        made.append(await (rollback if number % 2 else reload)(operator))
    return made


def memory_of(service: Service) -> float:
    """MiB of the replicas together, with what several processes share divided among those (PSS)."""
    return sum(_pss(process.pid) for process in service.processes("app.main")) / 1024


def _pss(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
