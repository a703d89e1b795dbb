"""The machine itself: a disk without room, a worker whose clock is hours off."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random

from benchmarks import disks
from benchmarks.chaos.clients import Crowd
from benchmarks.chaos.faults.fault import fault
from benchmarks.chaos.faults.processes import AIM_SECONDS
from benchmarks.chaos.house import eventually
from benchmarks.chaos.watcher import attempts

HOURS = (-30, -2, 2, 30)


@fault((1.0, 4.0), lacks=disks.lacks_mounts)
async def disk_full(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the store's disk full."""
    house = crowd.house

    async def running() -> bool:
        return bool(attempts(house))

    with suppress(TimeoutError):
        await eventually(running, "an attempt", AIM_SECONDS)
    ballast = house.store / "ballast"
    try:
        await asyncio.to_thread(disks.fill, ballast)
        yield
    finally:
        ballast.unlink()


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
