"""Schedules: each of their times fires once, by the database's clock, and what came of it can be read."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.tables import Event
from app.incidents.service import open_incident
from app.settings import Settings
from app.training.schedule import fire_due
from app.training.tables import ScheduleFire, TrainingJob
from tests.factories import define

ROOT = Path(__file__).parents[2]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
Maker = async_sessionmaker[AsyncSession]

# A process that ticks once when it is told to, and dies where it is told to.
TICK = """
import asyncio, datetime, os, signal, sys
from app import db
from app.settings import settings
from app.training.schedule import fire_due

async def tick():
    engine = db.create_engine(settings())
    async with db.create_sessions(engine)() as session, session.begin():
        await session.connection()
        print("ready", flush=True)
        sys.stdin.readline()
        jobs = await fire_due(session, settings())
        if "die" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
    await engine.dispose()
    print(len(jobs), datetime.datetime.now(datetime.UTC).isoformat())

asyncio.run(tick())
"""


async def schedule(sessions: Maker, cron: str = "* * * * *", *, hours_ago: float = 1.0, **rules: Any) -> None:
    """A model with a schedule that was applied so many hours ago."""
    async with sessions() as session, session.begin():
        await define(session, "fraud", triggers={"schedule": cron, "cooldown_minutes": 0} | rules)
        ago = f"clock_timestamp() - interval '{hours_ago} hours'"
        await session.execute(text(f"UPDATE model_definitions SET created_at = {ago}"))


async def cron_of(sessions: Maker, minutes_ago: int) -> str:
    """An expression whose newest time is so many minutes ago, by the database's clock."""
    async with sessions() as session:
        then = text(f"SELECT (clock_timestamp() - interval '{minutes_ago} minutes') AT TIME ZONE 'UTC'")
        at = (await session.execute(then)).scalar_one()
    return f"{at.minute} {at.hour} * * *"


async def fire(sessions: Maker, config: Settings) -> int:
    async with sessions() as session, session.begin():
        return len(await fire_due(session, config))


async def fired(sessions: Maker) -> list[ScheduleFire]:
    async with sessions() as session:
        return list((await session.scalars(select(ScheduleFire))).all())


def start(config: Settings, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    assert config.database_url is not None
    told = {"REFIT_DATABASE_URL": config.database_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TICK, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | told | environment, text=True, stdin=pipe, stdout=pipe)


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def tell(process: subprocess.Popen[str]) -> list[str]:
    return process.communicate("go\n", timeout=60)[0].split()


async def tick(process: subprocess.Popen[str]) -> list[str]:
    """Lets it go on: what it says in the end."""
    await asyncio.to_thread(ready, process)
    return await asyncio.to_thread(tell, process)


async def test_two_processes_that_tick_at_once_fire_once(sessions: Maker, config: Settings) -> None:
    await schedule(sessions, await cron_of(sessions, 5))
    ticking = [start(config) for _ in range(2)]
    for process in ticking:
        await asyncio.to_thread(ready, process)
    answers = await asyncio.gather(*(asyncio.to_thread(tell, process) for process in ticking))
    assert sorted(answer[0] for answer in answers) == ["0", "1"]
    assert [row.outcome for row in await fired(sessions)] == ["fired"]


@pytest.mark.skipif(not FAKETIME.exists(), reason="no libfaketime on this machine")
@pytest.mark.parametrize(("shift", "due"), [("+2h", 5), ("-2h", 5), ("+2h", -90)])
async def test_a_process_whose_clock_is_two_hours_off_fires_when_the_database_says(
    sessions: Maker, config: Settings, shift: str, due: int
) -> None:
    """Due five minutes ago it fires, whatever the process thinks; due in ninety minutes it does not."""
    await schedule(sessions, await cron_of(sessions, due), hours_ago=3)
    process = start(config, LD_PRELOAD=str(FAKETIME), FAKETIME=shift, FAKETIME_DONT_FAKE_MONOTONIC="1")
    count, its_clock = await tick(process)
    async with sessions() as session:
        off = text("SELECT abs(extract(epoch FROM clock_timestamp() - CAST(:its AS timestamptz)))")
        assert (await session.execute(off, {"its": its_clock})).scalar_one() > 7_000
    assert count == ("1" if due > 0 else "0")
    assert await fire(sessions, config) == 0


async def test_a_process_that_dies_between_taking_a_time_and_its_job_loses_nothing(
    sessions: Maker, config: Settings
) -> None:
    await schedule(sessions, await cron_of(sessions, 5))
    dying = start(config, "die")
    await tick(dying)
    assert dying.returncode == -signal.SIGKILL
    assert await fired(sessions) == []
    assert await fire(sessions, config) == 1


@pytest.mark.parametrize(
    ("rules", "minutes_ago", "outcome"),
    [
        ({}, 30, "fired"),
        ({}, 90, "missed"),
        ({"missed_minutes": 120}, 90, "fired"),
        ({"missed": "skip"}, 30, "missed"),
        ({"missed": "skip"}, 0, "fired"),
    ],
)
async def test_a_time_that_nobody_ticked_for_follows_the_rule(
    sessions: Maker, config: Settings, rules: dict[str, Any], minutes_ago: int, outcome: str
) -> None:
    await schedule(sessions, await cron_of(sessions, minutes_ago), hours_ago=3, **rules)
    for _ in range(2):
        await fire(sessions, config)
    [row] = await fired(sessions)
    assert (row.outcome, row.job_id is not None) == (outcome, outcome == "fired")
    async with sessions() as session:
        events = (await session.scalars(select(Event).where(Event.kind.startswith("schedule.")))).all()
    assert [event.kind for event in events] == [f"schedule.{outcome}"]
    assert events[0].evidence is not None
    assert events[0].evidence["late_seconds"] >= minutes_ago * 60


async def test_a_refusal_is_kept_with_its_figures_and_not_asked_again(sessions: Maker, config: Settings) -> None:
    await schedule(sessions, await cron_of(sessions, 5))
    async with sessions() as session, session.begin():
        await open_incident(session, severity="P1", title="on fire", actor="test")
    assert [await fire(sessions, config) for _ in range(2)] == [0, 0]
    [row] = await fired(sessions)
    assert (row.outcome, row.job_id, "P1" in str(row.reason)) == ("refused", None, True)
    async with sessions() as session:
        event = (await session.scalars(select(Event).where(Event.kind == "schedule.refused"))).one()
        assert event.evidence is not None
        assert event.evidence["reasons"][0]["code"] == "open_p1_incident"
        assert (await session.scalars(select(TrainingJob))).all() == []


async def test_what_is_due_next_and_what_came_of_the_last_time_can_be_read(
    client: httpx.AsyncClient, sessions: Maker, config: Settings
) -> None:
    await schedule(sessions, "0 2 * * 0")
    [told] = (await client.get("/schedule")).json()
    assert (told["model"], told["schedule"], told["missed"], told["last"]) == ("fraud", "0 2 * * 0", "run_once", None)
    assert [at[10:] for at in told["next"]] == ["T02:00:00Z"] * 3
    await schedule(sessions, await cron_of(sessions, 5))
    await fire(sessions, config)
    [told] = (await client.get("/schedule?model=fraud")).json()
    assert (told["last"]["outcome"], told["last"]["job_id"]) == ("fired", 1)
    assert (await client.get("/schedule?model=absent")).status_code == 404
