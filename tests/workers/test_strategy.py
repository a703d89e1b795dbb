"""What a job starts from, in real attempts: the active version, or nothing, and then the record says why."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data.tables import Sample
from app.definitions.service import apply
from app.records.service import change_record
from app.registry import artifacts, swap
from app.registry.swap import Change
from app.registry.tables import ModelSlots, ModelVersion
from app.settings import Settings, settings
from app.training import service, state
from app.training.schemas import JobView, TriggerRequest
from app.training.tables import JobLog, TrainingJob
from tests.factories import ALICE, candidate, claim, definition, trigger
from tests.workers.test_attempts import _row
from workers import catalog
from workers.strategy import base_of
from workers.supervise import Attempt

Maker = async_sessionmaker[AsyncSession]
Train = Callable[..., Awaitable[TrainingJob]]
GATE = {"min_rows": 10, "min_rows_per_class": 3}
QUICK: dict[str, Any] = {"families": ["logistic_regression"], "optuna_trials": 1, "cv_folds": 2}


async def define(sessions: Maker, **changes: Any) -> None:
    async with sessions() as session, session.begin():
        await apply(session, "fraud", definition(gate=GATE, training=QUICK, **changes), actor="test")


async def go_live(sessions: Maker, number: int) -> None:
    async with sessions() as session, session.begin():
        if (await session.get_one(ModelSlots, "fraud")).standby != number:
            await swap.stage(session, Change("fraud", "alice"), number)
        await swap.reload(session, Change("fraud", "alice", "for the test", force=True), watch_minutes=0)


async def post(sessions: Maker, first: int, last: int) -> None:
    async with sessions() as session, session.begin():
        await session.execute(insert(Sample), [_row(i) for i in range(first, last)])


@pytest.fixture
async def train(sessions: Maker, config: Settings, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Triggers a training of `fraud` on its 300 rows, runs its attempt, and gives the job as it ended."""
    for name in ("database_url", "broker_url", "data_dir"):
        monkeypatch.setenv(f"REFIT_{name.upper()}", str(getattr(config, name)))
    settings.cache_clear()
    async with sessions() as session, session.begin():
        await catalog.publish(session)
    await define(sessions)
    await post(sessions, 0, 300)

    async def train(**asked: Any) -> TrainingJob:
        async with sessions() as session, session.begin():
            await service.trigger(session, config, TriggerRequest(model="fraud", **asked), ALICE)
            job = await state.claim(session, uuid.uuid4(), ["cpu"], 15.0)
        assert job is not None
        await Attempt(config, sessions, job, asyncio.Event(), time.monotonic()).run()
        async with sessions() as session:
            ended = await session.get_one(TrainingJob, job.id)
        assert ended.state == "completed", ended.error
        return ended

    return train


async def test_an_incremental_job_starts_from_the_active_version_and_everybody_can_read_it(
    train: Train, sessions: Maker, session: AsyncSession
) -> None:
    first = await train()
    assert (first.strategy, first.base) == ("full", None)
    await go_live(sessions, 1)
    await post(sessions, 300, 330)
    job = await train(strategy="incremental")
    version = await session.get_one(ModelVersion, ("fraud", 2))
    assert (version.details["strategy"], version.details["base"], version.verdict) == ("incremental", 1, "pass")
    assert version.details["trials"] == []
    assert (JobView.of(job, ALICE).strategy, JobView.of(job, ALICE).base) == ("incremental", 1)
    record = await change_record(session, job.id)
    assert (record["configuration"]["strategy"], record["configuration"]["base"]) == ("incremental", 1)
    assert (await session.get_one(ModelVersion, ("fraud", 1))).details["strategy"] == "full"


async def test_with_nothing_active_it_trains_in_full_and_says_so(train: Train, session: AsyncSession) -> None:
    job = await train(strategy="incremental")
    version = await session.get_one(ModelVersion, ("fraud", 1))
    assert (job.strategy, job.base, version.details["strategy"], version.details["base"]) == (
        "incremental", None, "full", None,
    )  # fmt: skip
    assert version.details["full_because"] == "no version was active"
    assert (await change_record(session, job.id))["configuration"]["full_because"] == "no version was active"
    lines = (await session.scalars(select(JobLog.line).where(JobLog.job_id == job.id))).all()
    assert "trains in full: no version was active" in lines


async def test_files_that_are_not_what_was_published_are_not_started_from(
    train: Train, sessions: Maker, session: AsyncSession, config: Settings
) -> None:
    await train()
    await go_live(sessions, 1)
    active = await session.get_one(ModelVersion, ("fraud", 1))
    model = artifacts.folder_of(config.store, active.artifact) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    await post(sessions, 300, 330)
    job = await train(strategy="incremental")
    told = (await session.get_one(ModelVersion, ("fraud", 2))).details
    assert (job.base, told["base"]) == (None, None)
    assert "model.onnx does not match its digest" in told["full_because"]


async def test_a_dry_run_says_from_where_it_would_start(train: Train, sessions: Maker) -> None:
    await train()
    await go_live(sessions, 1)
    plan = (await train(strategy="incremental", dry_run=True)).plan
    assert plan is not None
    assert (plan["strategy"], plan["base"], plan["fits"]) == ("incremental", 1, 1)


async def test_what_its_base_was_trained_on_judges_no_candidate(
    train: Train, sessions: Maker, session: AsyncSession
) -> None:
    await train()
    await go_live(sessions, 1)
    # The holdout grows into what version 1 was trained on; a training in full of today has seen none of it.
    await define(sessions, split={"validation": 0.15, "holdout": 0.4})
    await train()
    await go_live(sessions, 2)
    await train(strategy="incremental")
    await define(sessions, split={"validation": 0.15, "holdout": 0.45})
    await go_live(sessions, 3)
    await train(strategy="incremental")
    excluded = [(await session.get_one(ModelVersion, ("fraud", n))).gate["excluded"] for n in (2, 3, 4)]
    assert excluded[0]["candidate"] == 0
    assert excluded[0]["incumbent"] > 0
    assert excluded[1] == {"candidate": 0, "incumbent": 0}
    # Version 4 goes back to 3, and so to 2, which were trained on what the holdout has now.
    assert excluded[2]["candidate"] == excluded[2]["incumbent"] > 0


async def test_a_later_attempt_starts_where_the_first_one_did(
    session: AsyncSession, config: Settings, train: Train
) -> None:
    jobs = [await trigger(session, config, "fraud", strategy="incremental") for _ in range(1)]
    for n in range(2):
        held = await claim(session)
        await state.complete(session, held, candidate())
        jobs += [await trigger(session, config, "fraud", strategy="incremental")] if n == 0 else []
    slots = await session.get_one(ModelSlots, "fraud")
    slots.active = 2
    job = jobs[0]
    job.base, job.data_digest = None, None
    assert (found := await base_of(session, job, slots)) is not None
    assert found.number == 2
    job.base = 1
    assert (found := await base_of(session, job, slots)) is not None
    assert found.number == 1
    job.base, job.data_digest = None, "d" * 64  # nothing was active when it began
    assert await base_of(session, job, slots) is None
