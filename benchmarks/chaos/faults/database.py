"""Postgres: restarted, killed, stopped, frozen, and out of reach for one process alone."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random

from benchmarks.chaos.clients import Crowd, connection_to
from benchmarks.chaos.faults.fault import fault
from benchmarks.chaos.faults.processes import about_to_lose, until_it_runs_again
from benchmarks.chaos.history import CUT_OFF, POSTGRES, Breach
from benchmarks.chaos.house import JOB_LEASE_SECONDS, House, Replica, eventually
from benchmarks.chaos.proxy import Weather
from benchmarks.client import ConnectionLost

# The backends of replicas and workers, not our own.
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'refit' ORDER BY backend_start, pid"
CUTS = (Weather.SWALLOW, Weather.DROP, Weather.RESET)


@fault((0.1, 2.0))
async def restarted(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """Postgres restarted in order (smart, then fast)."""
    with crowd.house.history.away(POSTGRES, "restarted"):
        # Smart waits for clients to leave, and pools never do: what it shows is that nobody new may come.
        await crowd.house.postgres.stop(signal.SIGTERM, signal.SIGINT, patience=1.5)
        yield
        await crowd.house.postgres.start()


@fault((0.1, 1.0))
async def restarted_at_once(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """Postgres restarted at once (immediate)."""
    with crowd.house.history.away(POSTGRES, "restarted at once"):
        await crowd.house.postgres.stop(signal.SIGQUIT)
        yield
        await crowd.house.postgres.start()


@fault((0.1, 1.0))
async def killed(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """kill -9 of Postgres."""
    with crowd.house.history.away(POSTGRES, "killed"):
        await crowd.house.postgres.kill()
        yield
        await crowd.house.postgres.start()


@fault((30.0, 30.0))
async def stopped(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """Postgres stopped for a while."""
    with crowd.house.history.away(POSTGRES, "stopped"):
        await crowd.house.postgres.stop(signal.SIGINT, signal.SIGQUIT)
        yield
        await crowd.house.postgres.start()


@fault((0.1, 0.5))
async def backend_killed(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """kill -9 of a Postgres backend, which makes Postgres begin anew."""
    with crowd.house.history.away(POSTGRES, "one backend killed"):
        os.kill(await _backend(crowd.house, chance), signal.SIGKILL)
        yield
        await eventually(lambda: crowd.house.ask("SELECT 1"), "Postgres after its crash")


@fault((2.0, JOB_LEASE_SECONDS + 3))
async def backend_frozen(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """SIGSTOP of a Postgres backend."""
    victim = await _backend(crowd.house, chance)
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGCONT)


@fault((0.5, 5.0))
async def replica_cut_off(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """a replica cut off from Postgres."""
    house = crowd.house
    [victim] = [replica for replica in house.replicas if replica.name in house.far]
    with house.history.away(victim.name, CUT_OFF):
        house.far[victim.name].turn(chance.choice(CUTS))
        await eventually(lambda: _is_unready(house, victim), "a replica that says it is not ready", 10)
        yield
    house.far[victim.name].turn(Weather.CLEAR)
    await eventually(lambda: _is_ready(house, victim), f"{victim.name} to find Postgres again")


@fault((JOB_LEASE_SECONDS + 1, JOB_LEASE_SECONDS + 5), brief=False)
async def worker_cut_off(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """a worker cut off from Postgres."""
    house = crowd.house
    [victim] = [worker for worker in house.workers if worker.name in house.far]
    loss = await about_to_lose(house, victim)
    house.far[victim.name].turn(chance.choice(CUTS))
    yield
    house.far[victim.name].turn(Weather.CLEAR)
    await until_it_runs_again(house, loss)


async def _backend(house: House, chance: Random) -> int:
    pid: int = chance.choice(await eventually(lambda: house.ask(BACKENDS), "a backend"))[0]
    return pid


async def _is_unready(house: House, replica: Replica) -> bool:
    return await _readiness(house, replica) == 503


async def _is_ready(house: House, replica: Replica) -> bool:
    return await _readiness(house, replica) == 200


async def _readiness(house: House, replica: Replica) -> int | None:
    try:
        async with connection_to(house, replica) as connection:
            return (await connection.request("GET", "/health/ready")).status
    except ConnectionLost as lost:
        house.history.breaches.append(Breach("a replica answers although Postgres is away", f"{replica.name}: {lost}"))
        return None
