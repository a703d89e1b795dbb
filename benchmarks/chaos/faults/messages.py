"""The broker: flushed, restarted, behind bad lines, and full of bells that nobody rang."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import redis
from celery import Celery

from app.cli.embedded import broker
from app.queue import TASK, Bell
from app.settings import Settings
from benchmarks.chaos.clients import Crowd
from benchmarks.chaos.faults.fault import fault
from benchmarks.chaos.house import House
from benchmarks.chaos.proxy import Weather

QUEUE, FOREIGN_QUEUE = "cpu", "gpu"
REPEATS = 30
UNKNOWN_JOBS = (0, -1, 10**12, 2**63)
RUBBISH = (
    b"",
    b"\x00\xff\xfe",
    b"rubbish",
    b"null",
    b"17",
    b"[]",
    b"{}",
    b'{"body": 1}',
    b'{"body": "e30=", "properties": {}}',
    b'{"body": "e30=", "headers": null, "properties": {"delivery_info": {}, "delivery_tag": 1}}',
    b'{"body": "\xff"}',
)


@fault((0.1, 1.0))
async def flushed(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the broker flushed."""
    with _direct(crowd.house) as client:
        await asyncio.to_thread(client.flushall)
    yield


@fault((0.1, 3.0))
async def restarted(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the broker restarted."""
    await crowd.house.broker.stop(signal.SIGTERM, signal.SIGINT)
    yield
    await crowd.house.broker.start()


@fault((2.0, 8.0))
async def half_open(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the broker half-open."""
    with _weather(crowd, Weather.SWALLOW):
        yield


@fault((2.0, 6.0))
async def delayed(crowd: Crowd, chance: Random) -> AsyncIterator[None]:
    """the broker slow."""
    with _weather(crowd, Weather.DELAY, chance.uniform(0.1, 1.5)):
        yield


@fault((2.0, 6.0))
async def dropped(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the broker's connections dropped."""
    with _weather(crowd, Weather.DROP):
        yield


@fault((2.0, 6.0))
async def reset(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the broker's connections reset."""
    with _weather(crowd, Weather.RESET):
        yield


@fault((0.5, 1.0))
async def bells_repeated(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """the same bells many times, and bells of unknown, finished and foreign jobs."""
    bell = Bell(Settings(broker_url=broker.url(crowd.house.folder)))
    ended = {operation.told["job_id"] for operation in crowd.house.history.of("status") if operation.status == 200}
    jobs = [*crowd.open_jobs, *sorted(ended)[:3], *UNKNOWN_JOBS]
    for job in jobs:
        for repeat in range(REPEATS):
            await bell.ring(job, FOREIGN_QUEUE if repeat % 10 == 0 else QUEUE, repeat % 2)
    yield
    await bell.drain()


@fault((0.5, 1.0))
async def bells_forged(crowd: Crowd, _: Random) -> AsyncIterator[None]:
    """rubbish in the broker's queue."""
    await asyncio.to_thread(_forge, crowd.house)
    yield


def _forge(house: House) -> None:
    with Celery("forger", broker=broker.url(house.folder), set_as_current=False) as forger:
        wrong: tuple[list[Any], ...] = ([], ["no number"], [None], [[1]], [1, 2], [{}])
        for arguments in wrong:
            forger.send_task(TASK, args=arguments, queue=QUEUE)
        forger.send_task("refit.unknown", args=[1], queue=QUEUE)
        forger.send_task("os.system", args=["false"], queue=QUEUE)
        forger.send_task(TASK, args=[1], queue=QUEUE, serializer="pickle")
    with _direct(house) as client:
        client.lpush(QUEUE, *RUBBISH)


@contextmanager
def _weather(crowd: Crowd, weather: Weather, seconds: float = 0.0) -> Iterator[None]:
    crowd.house.before_broker.turn(weather, seconds)
    try:
        yield
    finally:
        crowd.house.before_broker.turn(Weather.CLEAR)


def _direct(house: House) -> redis.Redis:
    """Past the proxy."""
    return redis.Redis.from_url(broker.url(house.folder))
