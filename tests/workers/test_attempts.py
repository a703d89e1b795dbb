"""Attempts as they really run: processes of their own, killed with real signals, on real data."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data import snapshots
from app.data.tables import DataVersion, Sample
from app.registry import artifacts, swap
from app.registry.swap import Change
from app.registry.tables import ModelSlots, ModelVersion
from app.settings import Settings, settings
from app.training import state
from app.training.tables import JobLog, JobMetric, TrainingJob
from tests.factories import ALICE, definition, expire_lease
from workers import catalog
from workers.supervise import Attempt

QUICK = {"families": ["logistic_regression"], "optuna_trials": 2, "cv_folds": 2}
# Long enough to be interrupted on any machine; its first trials are done within a second or two.
LONG = {"families": ["logistic_regression"], "optuna_trials": 100, "cv_folds": 5}
LEASE = 3.0

Begin = Callable[..., Awaitable[TrainingJob]]


@pytest.fixture
def worker(config: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a worker; attempts find the same in their environment."""
    own = config.model_copy(update={"job_lease_seconds": LEASE, "cancel_grace_seconds": 2.0})
    for name in ("database_url", "broker_url", "data_dir"):
        monkeypatch.setenv(f"REFIT_{name.upper()}", str(getattr(own, name)))
    settings.cache_clear()
    return own


@pytest.fixture
async def begin(sessions: async_sessionmaker[AsyncSession], worker: Settings) -> Begin:
    """Triggers a training of `fraud` on a few hundred rows and claims it."""
    from app.definitions.service import apply
    from app.training import service
    from app.training.schemas import TriggerRequest

    async with sessions() as session, session.begin():
        await catalog.publish(session)
        await apply(session, "fraud", definition(gate={"min_rows": 10, "min_rows_per_class": 3}), actor="test")
        await session.execute(insert(Sample), [_row(i) for i in range(400)])

    async def begin(**asked: Any) -> TrainingJob:
        async with sessions() as session, session.begin():
            await service.trigger(session, worker, TriggerRequest(model="fraud", **asked), ALICE)
            return await _claim(session)

    return begin


def _row(i: int) -> dict[str, Any]:
    noise = (i * 7919) % 100 / 100
    row = {"id": i, "amount": i % 40 + noise, "country": "NL" if i % 3 else "DE", "y": int(i % 40 + 6 * noise > 22)}
    return {"model": "fraud", "key": str(i), "row": row}


async def _claim(session: AsyncSession) -> TrainingJob:
    import uuid

    job = await state.claim(session, uuid.uuid4(), ["cpu"], LEASE)
    assert job is not None
    return job


@asynccontextmanager
async def running(
    job: TrainingJob,
    worker: Settings,
    sessions: async_sessionmaker[AsyncSession],
    draining: asyncio.Event | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """The attempt under supervision, once it has finished a trial; afterwards it has ended, come what may."""
    attempt = asyncio.create_task(Attempt(worker, sessions, job, draining or asyncio.Event(), time.monotonic()).run())
    trials = artifacts.checkpoints_of(worker.store, job.checkpoint_of or job.id) / "trials.json"
    try:
        async with asyncio.timeout(60):
            while not trials.exists():
                await asyncio.sleep(0.02)
                assert not attempt.done()
        yield attempt
        async with asyncio.timeout(30):
            await attempt
    finally:
        for process in processes_of(job):
            os.killpg(process.pid, signal.SIGKILL)


def processes_of(job: TrainingJob) -> list[psutil.Process]:
    """Every process of the job that this test has started, dead ones that nobody has reaped left out."""
    wanted = ["-m", "workers.run", str(job.id)]
    mine = [p for p in psutil.process_iter(["cmdline", "status", "ppid"]) if p.info["ppid"] == os.getpid()]
    return [p for p in mine if (p.info["cmdline"] or [])[1:4] == wanted and p.info["status"] != psutil.STATUS_ZOMBIE]


async def test_a_worker_that_slept_between_its_claim_and_the_answer_does_not_train(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=QUICK)
    await Attempt(worker, sessions, job, asyncio.Event(), time.monotonic() - LEASE).run()
    ended = await session.get_one(TrainingJob, job.id)
    assert (ended.state, ended.version, ended.stage) == ("queued", None, None)


async def test_a_result_that_postgres_did_not_take_is_written_again(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=QUICK)
    attempt = Attempt(worker, sessions, job, asyncio.Event(), time.monotonic())
    attempt._journal.outcome = {"outcome": "error", "code": "c", "message": "m", "remedy": "r"}
    async with sessions() as lost:
        await attempt._write(lost, "exited", 0)
        await lost.rollback()
    async with sessions() as other, other.begin():
        await attempt._write(other, "exited", 0)
    assert (await _ended(session, job)).state == "failed"


async def test_an_attempt_trains_publishes_what_was_judged_and_stages_it(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=QUICK)
    await Attempt(worker, sessions, job, asyncio.Event(), time.monotonic()).run()
    ended = await session.get_one(TrainingJob, job.id)
    assert (ended.state, ended.version, ended.progress) == ("completed", 1, 1.0), ended.error
    version = await session.get_one(ModelVersion, ("fraud", 1))
    assert version.verdict == "pass"
    assert version.gate == ended.gate
    _, manifest = artifacts.verify(worker.store, version.artifact)
    assert {"model.onnx", "schema.json", "smoke.json", "profile.json"} <= manifest.files.keys()
    assert (await session.get_one(ModelSlots, "fraud")).standby == 1
    assert (await session.scalars(select(JobLog.line).where(JobLog.job_id == job.id))).all()
    assert (await session.scalars(select(JobMetric.name).where(JobMetric.job_id == job.id))).all()
    assert not artifacts.checkpoints_of(worker.store, job.id).exists()
    assert not artifacts.staging_of(worker.store, job.id, job.fence).exists()


async def test_a_dry_run_reports_the_plan_and_makes_no_version(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=QUICK, dry_run=True)
    await Attempt(worker, sessions, job, asyncio.Event(), time.monotonic()).run()
    ended = await session.get_one(TrainingJob, job.id)
    assert ended.state == "completed"
    assert ended.plan is not None
    assert sum(ended.plan["rows"].values()) == 400
    assert (await session.scalars(select(ModelVersion))).all() == []


async def test_cancelled_means_that_the_processes_are_gone_and_the_checkpoint_is_kept(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=LONG)
    async with running(job, worker, sessions):
        for process in processes_of(job):
            process.suspend()  # so that only force ends it, and not at once
        async with sessions() as other, other.begin():
            await state.request_cancel(other, job.id, actor="test", reason=None)
        async with asyncio.timeout(30):
            while (await _state(sessions, job)) == "running":
                await asyncio.sleep(0.02)
        assert processes_of(job) == []
    assert (await session.get_one(TrainingJob, job.id)).state == "cancelled"
    assert (artifacts.checkpoints_of(worker.store, job.id) / "trials.json").exists()


async def test_a_killed_process_resumes_from_its_checkpoint_and_gives_the_version_it_would_have_given(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    params = LONG | {"optuna_trials": 6}
    job = await begin(params=params)
    async with running(job, worker, sessions):
        processes_of(job)[0].send_signal(signal.SIGKILL)
    assert await _state(sessions, job) == "queued"
    async with sessions() as other, other.begin():
        again = await _claim(other)
    assert (again.id, again.attempt) == (job.id, 2)
    await Attempt(worker, sessions, again, asyncio.Event(), time.monotonic()).run()
    uninterrupted = await begin(params=params, note="once more", data_version=(await _ended(session, job)).data_digest)
    await Attempt(worker, sessions, uninterrupted, asyncio.Event(), time.monotonic()).run()
    artifact = (await session.scalars(select(ModelVersion.artifact).order_by(ModelVersion.number))).all()
    assert len(artifact) == 2
    assert artifact[0] == artifact[1]


async def test_an_attempt_that_lost_its_lease_is_stopped_and_writes_nothing(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=LONG)
    async with running(job, worker, sessions), sessions() as other, other.begin():
        await expire_lease(other, job.id)
        await state.expire(other)
    assert processes_of(job) == []
    assert (await _ended(session, job)).state == "queued"


async def test_a_worker_that_drains_puts_its_attempt_back_uncounted(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job, draining = await begin(params=LONG), asyncio.Event()
    async with running(job, worker, sessions, draining):
        draining.set()
    ended = await _ended(session, job)
    assert (ended.state, ended.attempt, ended.max_attempts) == ("queued", 1, 4)
    assert processes_of(job) == []


async def test_an_attempt_that_does_not_advance_is_stopped_as_stalled(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=LONG)
    async with running(job, worker, sessions):
        for process in processes_of(job):
            process.suspend()
        # The supervisor lives and renews; only the stage no longer moves.
        async with sessions() as other, other.begin():
            long_ago = "UPDATE training_jobs SET advanced_at = clock_timestamp() - interval '1 day'"
            await asyncio.sleep(0.6)
            await other.execute(text(long_ago))
    ended = await _ended(session, job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "stalled")


LEAVES_A_CHILD = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


async def test_stopping_an_attempt_ends_what_it_has_started_too(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession]
) -> None:
    hasty = worker.model_copy(update={"cancel_grace_seconds": 0.2})
    attempt = Attempt(hasty, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEAVES_A_CHILD, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = psutil.Process(int(await process.stdout.readline()))
    try:
        async with asyncio.timeout(10):
            await attempt._end_group(process)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def test_a_version_is_judged_on_the_holdout_rows_against_the_version_that_is_active(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    await Attempt(worker, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic()).run()
    async with sessions() as other, other.begin():
        await swap.reload(other, Change("fraud", "test"), watch_minutes=0)
    await Attempt(worker, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic()).run()
    version = await session.get_one(ModelVersion, ("fraud", 2))
    data = await session.get_one(DataVersion, ("fraud", version.data_version))
    assert (version.incumbent, version.gate["incumbent"]) == (1, 1)
    assert version.gate["rows"] == data.counts["holdout"]
    assert (version.gate["leak_check"], version.gate["excluded"]) == ("done", {"candidate": 0, "incumbent": 0})


async def test_rows_that_the_active_version_was_trained_on_are_left_out_of_the_comparison(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    from app.definitions.service import apply

    await Attempt(worker, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic()).run()
    grown = {"split": {"holdout": 0.4}, "gate": {"min_rows": 10, "min_rows_per_class": 3}}
    async with sessions() as other, other.begin():
        await swap.reload(other, Change("fraud", "test"), watch_minutes=0)
        await apply(other, "fraud", definition(**grown), actor="test")
    await Attempt(worker, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic()).run()
    version = await session.get_one(ModelVersion, ("fraud", 2))
    rows = {c["name"]: c["n"] for c in version.gate["criteria"]}
    left_out = version.gate["excluded"]["incumbent"]
    assert left_out > 50
    assert rows["f1"] == rows["recall"] - left_out


async def test_a_version_whose_data_is_gone_is_not_compared_in_silence(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    await Attempt(worker, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic()).run()
    async with sessions() as other, other.begin():
        await swap.reload(other, Change("fraud", "test"), watch_minutes=0)
        await other.execute(insert(Sample), [_row(i) for i in range(400, 440)])
    first = await session.get_one(ModelVersion, ("fraud", 1))
    snapshots.path_of(worker.store, first.data_version).unlink()
    await Attempt(worker, sessions, await begin(params=QUICK), asyncio.Event(), time.monotonic()).run()
    gate = (await session.get_one(ModelVersion, ("fraud", 2))).gate
    assert (gate["leak_check"], gate["excluded"]["incumbent"]) == ("unknown", None)
    assert "cannot be read" in gate["leak_reason"]
    assert gate["verdict"] != "pass"


async def test_out_of_memory_is_tried_once_more_at_half_the_batch_and_no_oftener(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=QUICK)
    out_of_memory = {"outcome": "error", "code": "out_of_memory", "message": "m", "remedy": "r"}
    async with sessions() as other, other.begin():
        await Attempt(worker, sessions, job, asyncio.Event(), time.monotonic())._write_outcome(
            other, dict(out_of_memory)
        )
        again = await _claim(other)
    assert (again.id, again.memory_scale) == (job.id, 0.5)
    async with sessions() as other, other.begin():
        await Attempt(worker, sessions, again, asyncio.Event(), time.monotonic())._write_outcome(
            other, dict(out_of_memory)
        )
    ended = await _ended(session, job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "out_of_memory")


async def test_too_little_new_data_fails_with_its_figures_before_anything_is_trained(
    begin: Begin, worker: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    job = await begin(params=QUICK)
    async with sessions() as other, other.begin():
        await other.execute(text("UPDATE training_jobs SET min_new_samples = 1000"))
    await Attempt(worker, sessions, job, asyncio.Event(), time.monotonic()).run()
    ended = await _ended(session, job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "insufficient_data")
    assert ended.error["message"].startswith("400 new labelled samples")


LIVES = """
import subprocess, sys, time
from workers import lifeline
lifeline.hold(time.monotonic() + float(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("deadline", "close"), [(600.0, True), (0.7, False)])
def test_an_attempt_and_its_children_end_when_their_supervisor_is_gone_or_asleep(deadline: float, close: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LIVES, str(deadline)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    if close:
        process.stdin.close()
    try:
        assert process.wait(timeout=10) == -signal.SIGKILL
        deadline = time.monotonic() + 5
        while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def _state(sessions: async_sessionmaker[AsyncSession], job: TrainingJob) -> str:
    async with sessions() as session:
        return (await session.get_one(TrainingJob, job.id)).state


async def _ended(session: AsyncSession, job: TrainingJob) -> TrainingJob:
    return await session.get_one(TrainingJob, job.id, populate_existing=True)


async def test_an_attempt_that_cannot_reach_postgres_leaves_the_job_to_another(
    begin: Begin,
    worker: Settings,
    sessions: async_sessionmaker[AsyncSession],
    session: AsyncSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = await begin(params=QUICK)
    monkeypatch.setenv("REFIT_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    await Attempt(worker, sessions, job, asyncio.Event(), time.monotonic()).run()
    ended = await _ended(session, job)
    assert (ended.state, ended.attempt, ended.error) == ("queued", 1, None)
