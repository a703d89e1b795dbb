"""Replicas, workers and attempts: killed, frozen for longer than their lease, and one that joins."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random

from benchmarks.chaos.clients import MODELS, Crowd, predict, swap
from benchmarks.chaos.faults.fault import fault
from benchmarks.chaos.history import Loss, now
from benchmarks.chaos.house import JOB_LEASE_SECONDS, LATECOMER, REPLICA_LEASE_SECONDS, House, Program, eventually
from benchmarks.chaos.watcher import Seen, attempts

# So long a fault waits for a job that it can hit.
AIM_SECONDS = 15.0
RUNS_AGAIN_SECONDS = 40.0

# The one whose lease is renewed: a claim whose answer was lost leaves a job that its owner knows nothing of.
RUNNING = """SELECT jobs.id, jobs.attempt FROM training_jobs jobs JOIN workers ON workers.id = jobs.owner
             WHERE workers.pid = %s AND jobs.state = 'running' ORDER BY jobs.lease_until DESC LIMIT 1"""
RAN_AGAIN = """SELECT 1 FROM training_jobs WHERE id = %s
               AND (attempt > %s AND state = 'running' OR finished_at IS NOT NULL)"""


@fault((0.1, 1.0))
async def replica_killed(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """kill -9 of a replica."""
    victim = chance.choice(crowd.house.replicas)
    with crowd.house.history.away(victim.name, "killed"):
        await victim.kill()
        yield
        await victim.start()


@fault((REPLICA_LEASE_SECONDS + 0.5, REPLICA_LEASE_SECONDS + 4))
async def replica_frozen(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """SIGSTOP of a replica."""
    victim = chance.choice(crowd.house.replicas)
    with crowd.house.history.away(victim.name, "frozen"):
        victim.freeze()
        try:
            yield
        finally:
            victim.thaw()


@fault((0.1, 1.0))
async def worker_killed(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """kill -9 of a worker."""
    victim = chance.choice(crowd.house.workers)
    loss = await about_to_lose(crowd.house, victim)
    await victim.kill()
    yield
    await victim.start()
    await until_it_runs_again(crowd.house, loss)


@fault((JOB_LEASE_SECONDS + 1, JOB_LEASE_SECONDS + 4), brief=False)
async def worker_frozen(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """SIGSTOP of a worker."""
    victim = chance.choice(crowd.house.workers)
    loss = await about_to_lose(crowd.house, victim)
    victim.freeze()
    try:
        yield
    finally:
        victim.thaw()
    await until_it_runs_again(crowd.house, loss)


@fault((0.1, 0.5))
async def attempt_killed(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """kill -9 of an attempt."""
    for victim in await _aim(crowd.house, chance):
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    yield


@fault((1.0, JOB_LEASE_SECONDS + 3))
async def attempt_frozen(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """SIGSTOP of an attempt."""
    victims = await _aim(crowd.house, chance)
    try:
        _signal(victims, signal.SIGSTOP)
        yield
    finally:
        _signal(victims, signal.SIGCONT)


@fault((0.5, 2.0))
async def replica_joined(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """a replica that joins in the middle of swaps."""
    house = crowd.house
    latecomer = house.replica(LATECOMER)
    predicting = asyncio.create_task(predict(crowd, latecomer, LATECOMER))
    try:
        async with crowd.caller(f"{LATECOMER}-{chance.getrandbits(32):x}") as caller:
            with house.history.away(LATECOMER, "starts"):
                starting = asyncio.create_task(latecomer.start())
                while not starting.done():
                    await swap(caller, chance.choice(MODELS))
                await starting
        yield
    finally:
        predicting.cancel()
        await latecomer.stop(signal.SIGTERM)


async def about_to_lose(house: House, worker: Program) -> Loss | None:
    """Waits for a job that the worker runs, and notes in the history that it is lost from now on."""
    with suppress(TimeoutError):
        [(job, attempt)] = await eventually(
            lambda: house.ask(RUNNING, worker.pid), f"a job of {worker.name}", AIM_SECONDS
        )
        loss = Loss(job, attempt, now())
        house.history.losses.append(loss)
        return loss
    return None


async def until_it_runs_again(house: House, loss: Loss | None) -> None:
    """So that the next fault does not add to the time that this one costs. The laws judge it, not we."""
    if loss is not None:
        with suppress(TimeoutError):
            await eventually(lambda: house.ask(RAN_AGAIN, loss.job, loss.attempt), "its next run", RUNS_AGAIN_SECONDS)


async def _aim(house: House, chance: Random) -> list[Seen]:
    """One process of an attempt, or none where none came."""

    async def running() -> list[Seen]:
        return attempts(house)

    with suppress(TimeoutError):
        return [chance.choice(await eventually(running, "an attempt", AIM_SECONDS))]
    return []


def _signal(victims: list[Seen], number: signal.Signals) -> None:
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim.pid, number)
