"""Looks at the machine's own list of processes, several times a second: what a database cannot know."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from benchmarks.chaos.history import now
from benchmarks.chaos.house import House

EVERY_SECONDS = 0.2
RUN = b"workers.run"


@dataclass(frozen=True)
class Seen:
    """A process of an attempt that is neither stopped nor a zombie; `ticks` is the processor time that it has used."""

    pid: int
    parent: int
    job: int
    fence: int
    ticks: int


async def watch(house: House) -> None:
    """For ever. Two processes of a job are together for as long as both use the processor between two looks.

    A process that is only being killed can be seen beside its successor, but does not advance from look to look.
    """
    before: dict[int, Seen] = {}
    advanced_before: set[int] = set()
    while True:
        looked_at = now()
        seen = attempts(house)
        advanced = {p.pid for p in seen if p.pid in before and p.ticks > before[p.pid].ticks}
        for job, processes in _by_job(seen).items():
            house.history.last_seen[job] = looked_at
            for one, other in combinations(processes, 2):
                if {one.pid, other.pid} <= advanced & advanced_before:
                    house.history.together[job] += EVERY_SECONDS
        before, advanced_before = {p.pid: p for p in seen}, advanced
        await house.mend()
        await asyncio.sleep(EVERY_SECONDS)


def attempts(house: House, *, stopped: bool = False) -> list[Seen]:
    """The attempts' processes of this house; with `stopped` also those that are frozen."""
    seen = (_seen(folder, house.folder.path, stopped) for folder in Path("/proc").glob("[0-9]*"))
    return [process for process in seen if process is not None]


def _seen(folder: Path, data: Path, stopped: bool) -> Seen | None:
    with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
        command = (folder / "cmdline").read_bytes().split(b"\0")
        if RUN not in command or f"REFIT_DATA_DIR={data}".encode() not in (folder / "environ").read_bytes():
            return None
        job, fence = (int(word) for word in command[command.index(RUN) + 1 :][:2])
        # After the name in brackets: state, parent, … and as 12th and 13th the ticks in user and kernel mode.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        if fields[0] in ("Z", "X") or (fields[0] in ("T", "t") and not stopped):
            return None
        return Seen(int(folder.name), int(fields[1]), job, fence, int(fields[11]) + int(fields[12]))
    return None


def _by_job(seen: list[Seen]) -> dict[int, list[Seen]]:
    found: dict[int, list[Seen]] = defaultdict(list)
    for process in seen:
        found[process.job].append(process)
    return found
