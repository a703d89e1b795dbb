"""What is thrown away, and what never is."""

import asyncio
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock
from app.errors import Refused
from app.events.tables import Event
from app.monitoring.tables import MonitorCheck
from app.notifications.tables import Delivery, Try
from app.records import retention
from app.records.tables import Chore
from app.records.tidy import tidy
from app.registry import swap
from app.registry.artifacts import folder_of
from app.registry.swap import Change
from app.registry.tables import ModelVersion
from app.settings import Settings
from app.training import service, state
from app.training.tables import JobLog, JobMetric, TrainingJob
from tests.factories import ALICE, claim, define, trigger, version

Maker = async_sessionmaker[AsyncSession]
ERROR = {"code": "not_converged", "message": "No.", "remedy": "None."}


@pytest.fixture
def settings(config: Settings) -> Settings:
    return config.model_copy(update={"retain_artifact_days": 30})


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.json").write_text("{}")
    return folder


async def age(session: AsyncSession, days: float, *jobs: int) -> None:
    """As if these jobs had ended, and their versions been made, so many days ago."""
    then = text(f"clock_timestamp() - interval '{days} days'")
    await session.execute(update(TrainingJob).where(TrainingJob.id.in_(jobs)).values(finished_at=then))
    await session.execute(update(ModelVersion).where(ModelVersion.job_id.in_(jobs)).values(created_at=then))


async def failed(session: AsyncSession, settings: Settings) -> int:
    """A job that has failed, with a log, a curve, a checkpoint and something half written."""
    job = await trigger(session, settings, "fraud")
    await state.fail(session, await claim(session), ERROR)
    await session.execute(insert(JobLog).values(job_id=job.id, attempt=1, line="x"))
    point = {"job_id": job.id, "attempt": 1, "name": "loss", "step": 1, "value": 0.5}
    await session.execute(insert(JobMetric).values(point))
    make(settings.store / "checkpoints" / str(job.id))
    make(settings.store / "staging" / str(job.id) / "1")
    return job.id


async def run(sessions: Maker, settings: Settings) -> retention.Leaving:
    async with sessions() as session, session.begin():
        leaving = await retention.run(session, settings)
    await retention.remove_folders(leaving.folders)
    return leaving


async def count(sessions: Maker, table: type[JobLog | JobMetric | Chore]) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def test_logs_curves_checkpoints_and_leftovers_go_when_their_time_has_come(
    sessions: Maker, settings: Settings
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        old, young = await failed(session, settings), await failed(session, settings)
        await age(session, 91, old)
    leaving = await run(sessions, settings)
    assert (leaving.jobs, leaving.log_lines, leaving.metric_points) == ([old], 1, 1)
    assert (leaving.checkpoints, leaving.staging) == ([old], [old])
    assert (await count(sessions, JobLog), await count(sessions, JobMetric)) == (1, 1)
    assert [p.name for p in (settings.store / "checkpoints").iterdir()] == [str(young)]
    assert [p.name for p in (settings.store / "staging").iterdir()] == [str(young)]
    async with sessions() as session:
        assert (await service.get_job(session, old)).error == ERROR
        event = (await session.scalars(select(Event).where(Event.kind == "retention.ran"))).one()
    assert event.evidence is not None
    assert (event.evidence["log_lines"], event.evidence["checkpoints"], event.evidence["retain_log_days"]) == (1, 1, 90)


async def test_what_has_nothing_to_throw_away_leaves_no_event(sessions: Maker, settings: Settings) -> None:
    await run(sessions, settings)
    async with sessions() as session:
        assert (await session.scalars(select(Event))).all() == []


async def test_a_checkpoint_stays_while_a_job_goes_on_with_it(sessions: Maker, settings: Settings) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        old = await failed(session, settings)
        resumed = await service.resume(session, settings, old, ALICE)
        await age(session, 91, old)
    assert (await run(sessions, settings)).checkpoints == []
    async with sessions() as session, session.begin():
        await state.request_cancel(session, resumed.id, actor="test", reason=None)
    assert (await run(sessions, settings)).checkpoints == []
    async with sessions() as session, session.begin():
        await age(session, 15, resumed.id)
    assert (await run(sessions, settings)).checkpoints == [old]


async def test_what_a_running_job_writes_stays_however_long_it_takes(sessions: Maker, settings: Settings) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        job = await trigger(session, settings, "fraud")
        await claim(session)
        await session.execute(text("UPDATE training_jobs SET created_at = created_at - interval '99 days'"))
    folder = make(settings.store / "staging" / str(job.id) / "1")
    assert await run(sessions, settings) == retention.Leaving()
    assert folder.exists()


async def test_a_folder_that_no_job_is_known_of_stays(sessions: Maker, settings: Settings) -> None:
    folders = [make(settings.store / "checkpoints" / name) for name in ("99", "mine", "9" * 30)]
    assert await run(sessions, settings) == retention.Leaving()
    assert all(folder.exists() for folder in folders)


async def versions(sessions: Maker, settings: Settings) -> list[Path]:
    """1 was active and is previous, 2 is active, 3 never stood in a slot and is old, 4 is the newest."""
    folders = []
    async with sessions() as session, session.begin():
        await define(session, "fraud", prerequisites={"min_new_samples": 0})
        for number in (1, 2, 3, 4):
            digest = str(number) * 64
            folders.append(make(folder_of(settings.store, digest)))
            incumbent = None if number == 1 else 1 if number == 2 else 2
            await version(session, settings, "fraud", artifact=digest, incumbent=incumbent)
            if number <= 2:
                await swap.stage(session, Change("fraud", "alice"), number)
                await swap.reload(session, Change("fraud", "alice"), watch_minutes=0)
        await age(session, 31, 1, 2, 3, 4)
    return folders


async def test_files_of_a_version_that_never_served_may_go_and_its_row_stays(
    sessions: Maker, settings: Settings
) -> None:
    folders = await versions(sessions, settings)
    leaving = await run(sessions, settings)
    assert (leaving.versions, leaving.artifacts) == (["fraud/3"], ["3" * 64])
    assert [folder.exists() for folder in folders] == [True, True, False, True]
    async with sessions() as session, session.begin():
        kept = await swap.get_version(session, "fraud", 3)
        assert kept.artifact_removed_at is not None
        with pytest.raises(Refused) as refused:
            await swap.stage(session, Change("fraud", "alice"), 3)
    assert refused.value.code == "artifact_removed"


async def test_files_of_versions_are_kept_for_ever_by_default(sessions: Maker, config: Settings) -> None:
    folders = await versions(sessions, config)
    assert await run(sessions, config) == retention.Leaving()
    assert all(folder.exists() for folder in folders)


async def test_files_that_two_versions_share_go_with_the_last_of_them(sessions: Maker, settings: Settings) -> None:
    await versions(sessions, settings)
    async with sessions() as session, session.begin():
        shared = update(ModelVersion).where(ModelVersion.number == 4).values(artifact="3" * 64)
        await session.execute(shared)
    leaving = await run(sessions, settings)
    assert (leaving.versions, leaving.artifacts) == (["fraud/3"], [])
    assert folder_of(settings.store, "3" * 64).exists()


async def test_folders_that_were_left_half_removed_go_the_next_time(sessions: Maker, settings: Settings) -> None:
    folders = await versions(sessions, settings)
    async with sessions() as session, session.begin():
        await retention.run(session, settings)
    folders[2].rename(folders[2].with_name(f"{folders[2].name}{retention.GOING}"))
    leaving = await run(sessions, settings)
    assert (leaving.versions, leaving.artifacts) == ([], ["3" * 64])
    assert not any(path.name.startswith("3") for path in (settings.store / "artifacts").iterdir())


async def test_it_runs_once_an_hour_whoever_ticks(sessions: Maker, settings: Settings) -> None:
    async def turn() -> list[Path]:
        async with sessions() as session, session.begin():
            return await retention.run_hourly(session, settings)

    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await age(session, 91, await failed(session, settings))
    assert len(await turn()) == 2
    async with sessions() as session, session.begin():
        await age(session, 91, await failed(session, settings))
    assert await turn() == []
    async with sessions() as session, session.begin():
        await session.execute(update(Chore).values(ran_at=clock() - text("interval '61 minutes'")))
    assert len(await turn()) == 4


async def test_a_dry_run_shows_what_would_go_and_changes_nothing(
    client: httpx.AsyncClient, sessions: Maker, config: Settings
) -> None:
    while not await count(sessions, Chore):
        await asyncio.sleep(0.05)  # the application's own ticker has had its turn of this hour
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        old = await failed(session, config)
        await age(session, 91, old)
    shown = (await client.post("/retention/run", json={"dry_run": True})).json()
    assert (shown["dry_run"], shown["jobs"], shown["log_lines"], shown["checkpoints"]) == (True, [old], 1, [old])
    assert await count(sessions, JobLog) == 1
    assert (config.store / "checkpoints" / str(old)).exists()
    done = (await client.post("/retention/run", json={"reason": "the disk is full"})).json()
    assert (done["dry_run"], done["log_lines"]) == (False, 1)
    assert await count(sessions, JobLog) == 0
    assert not (config.store / "checkpoints" / str(old)).exists()
    told = (await client.get("/events?kind=retention.ran")).json()["data"]
    assert [(event["reason"], event["actor"][:4]) for event in told] == [("the disk is full", "test")]


async def test_what_monitors_found_and_whom_it_was_told_goes_with_the_logs(sessions: Maker, settings: Settings) -> None:
    old = text("SELECT clock_timestamp() - interval '91 days'")
    async with sessions() as session, session.begin():
        then = await session.scalar(old)
        for at in (then, await session.scalar(select(clock()))):
            session.add(MonitorCheck(model="fraud", name="f1", at=at, state="ok", numbers={}, reason="of the test"))
            message = {"target": "pager", "rule": "r", "kind": "job.failed", "events": [1], "state": "delivered"}
            told = Delivery(**message, message=f"msg_{at}", next_at=at, gather_until=at, created_at=at)
            session.add(told)
            await session.flush()
            session.add(Try(delivery=told.id, attempt=1, at=at, ms=1.0))
    async with sessions() as session, session.begin():
        await tidy(session, settings)
    async with sessions() as session:
        kept = [await session.scalar(select(func.count()).select_from(t)) for t in (MonitorCheck, Delivery, Try)]
    assert kept == [1, 1, 1]
