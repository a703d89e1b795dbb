"""The machine itself: a disk without room, a worker whose clock is hours off."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from random import Random

from benchmarks.chaos.clients import Crowd
from benchmarks.chaos.faults.fault import fault
from benchmarks.chaos.faults.processes import AIM_SECONDS
from benchmarks.chaos.house import eventually
from benchmarks.chaos.watcher import attempts

CLONE_NEWNS = 0x00020000
DISK_BYTES = 128 * 2**20
HOURS = (-30, -2, 2, 30)


@cache
def lacks_mounts() -> str | None:
    """None once this process has a mount table of its own, which vanishes with it; else why it cannot have one.

    To be asked before there are threads: only those made afterwards share the table.
    """
    if sys.platform != "linux":
        return "no tmpfs"
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return f"no mounts ({os.strerror(ctypes.get_errno())})"
    made_private = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return None if made_private.returncode == 0 else "no mounts (they would be everybody's)"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """`folder` is a disk of its own while the block lasts, where this machine lets us."""
    folder.mkdir()
    mounted = lacks_mounts() is None
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


@fault((1.0, 4.0), lacks=lacks_mounts)
async def disk_full(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the store's disk full."""
    house = crowd.house

    async def running() -> bool:
        return bool(attempts(house))

    with suppress(TimeoutError):
        await eventually(running, "an attempt", AIM_SECONDS)
    ballast = house.store / "ballast"
    try:
        await asyncio.to_thread(_fill, ballast)
        yield
    finally:
        ballast.unlink()


def _fill(ballast: Path) -> None:
    with ballast.open("wb") as file:
        disk = os.fstatvfs(file.fileno())
        for size in (disk.f_bavail * disk.f_frsize, *[disk.f_frsize] * 64):
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:  # somebody else took the last of it meanwhile
                return


@cache
def _faketime() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@fault((8.0, 15.0), brief=False, lacks=lambda: None if _faketime() else "no libfaketime")
async def clock_shifted(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """a worker whose clock is hours off."""
    worker, hours = chance.choice(crowd.house.workers), chance.choice(HOURS)
    shift = {"LD_PRELOAD": str(_faketime()), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    right, worker.make = worker.make, crowd.house.worker(worker.name, **shift).make
    await worker.stop(signal.SIGTERM)
    await worker.start()
    yield
    await worker.stop(signal.SIGTERM)
    worker.make = right
    await worker.start()
