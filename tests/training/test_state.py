"""The life of a job: who may change it, and who may not."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock
from app.events.tables import Event
from app.incidents.tables import Incident
from app.settings import Settings
from app.training import state
from app.training.state import TRANSITIONS, JobState
from app.training.sweep import ring, sweep
from app.training.tables import TrainingJob
from tests.factories import (
    ALICE,
    LEASE,
    candidate,
    claim,
    define,
    expire_lease,
    numbers,
    trigger,
)

RUNNING_FIGURES = {"owner": uuid.uuid4(), "lease_until": clock()}


async def job_of(session: AsyncSession, job_id: int) -> TrainingJob:
    return await session.get_one(TrainingJob, job_id, populate_existing=True)


@pytest.mark.parametrize("source", JobState)
@pytest.mark.parametrize("target", JobState)
async def test_a_job_moves_along_the_table_and_in_no_other_way(
    session: AsyncSession, config: Settings, source: JobState, target: JobState
) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    held = RUNNING_FIGURES if source == JobState.RUNNING else {}
    job.state = source
    for name, value in held.items():
        setattr(job, name, value)
    await session.flush()
    lets_go = RUNNING_FIGURES if target == JobState.RUNNING else state.RELEASED
    if target in TRANSITIONS[source]:
        moved = await state._move(session, source, target, TrainingJob.id == job.id, **lets_go)
        assert [j.state for j in moved] == [target]
    else:
        with pytest.raises(ValueError, match="never goes"):
            await state._move(session, source, target, TrainingJob.id == job.id, **lets_go)


def test_what_has_ended_never_moves_again() -> None:
    assert {s for s in JobState if s.is_terminal} == {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


async def test_a_job_is_claimed_once_however_many_ask_at_once(
    sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await trigger(session, config, "fraud")

    async def ask() -> bool:
        async with sessions() as session, session.begin():
            return await state.claim(session, uuid.uuid4(), ["cpu"], LEASE) is not None

    assert sum(await asyncio.gather(*(ask() for _ in range(20)))) == 1


async def test_a_model_never_runs_two_jobs_at_once(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    await trigger(session, config, "fraud", params={"epochs": 1})
    await claim(session)
    await trigger(session, config, "fraud", params={"epochs": 2})
    assert await state.claim(session, uuid.uuid4(), ["cpu"], LEASE) is None


async def test_two_workers_that_claim_at_once_never_run_two_jobs_of_a_model(
    sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await trigger(session, config, "fraud", params={"epochs": 1})
        await state.release(session, await claim(session), reason="drained", counts=False)
        await trigger(session, config, "fraud", params={"epochs": 2})
    async with sessions() as first, sessions() as second:
        await first.begin()
        assert await state.claim(first, uuid.uuid4(), ["cpu"], LEASE) is not None
        # It cannot see the claim that is not committed yet, and takes the other job.
        later = asyncio.create_task(state.claim(second, uuid.uuid4(), ["cpu"], LEASE))
        await asyncio.wait({later}, timeout=0.3)
        await first.commit()
        assert await later is None


async def test_a_worker_that_lost_its_job_cannot_finish_it(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    loser = await claim(session)
    await expire_lease(session, job.id)
    await sweep(session)
    winner = await claim(session)
    assert await state.renew(session, loser, LEASE) is None
    assert not await state.advance(session, loser, stage="search")
    assert not await state.fail(session, loser, {"code": "x", "message": "x", "remedy": "x"})
    assert not await state.confirm_cancelled(session, loser)
    assert not await state.release(session, loser, reason="x", counts=True)
    assert await state.complete(session, loser, candidate()) is None
    assert await numbers(session, "fraud") == []
    assert (await job_of(session, job.id)).owner == winner.owner


async def test_a_worker_that_claims_its_job_again_cannot_write_for_the_attempt_before(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await trigger(session, config, "fraud")
    worker = uuid.uuid4()
    before = await claim(session, owner=worker)
    await state.release(session, before, reason="drained", counts=False)
    now = await claim(session, owner=worker)
    assert not await state.advance(session, before, stage="search")
    assert await state.complete(session, before, candidate()) is None
    assert await state.advance(session, now, stage="search")


async def test_a_claim_is_worth_nothing_in_another_workers_hands(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    await trigger(session, config, "fraud")
    stolen = replace(await claim(session), owner=uuid.uuid4())
    assert await state.renew(session, stolen, LEASE) is None
    assert await state.complete(session, stolen, candidate()) is None


async def test_a_lease_that_ran_out_is_worth_nothing_even_before_the_sweep_came(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    late = await claim(session)
    await expire_lease(session, job.id)
    assert await state.renew(session, late, LEASE) is None
    assert await state.complete(session, late, candidate()) is None
    assert await numbers(session, "fraud") == []


async def test_the_sweep_leaves_a_living_lease_alone(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    await claim(session)
    await sweep(session)
    assert (await job_of(session, job.id)).state == JobState.RUNNING


async def test_a_job_that_loses_its_worker_three_times_has_failed_and_opens_an_incident(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    for _ in range(3):
        assert (await job_of(session, job.id)).state == JobState.QUEUED
        await claim(session)
        await expire_lease(session, job.id)
        await sweep(session)
    lost = await job_of(session, job.id)
    assert (lost.state, lost.attempt) == (JobState.FAILED, 3)
    assert lost.error is not None
    assert lost.error["code"] == "worker_lost"
    opened = (await session.scalars(select(Event).where(Event.kind == "incident.opened"))).all()
    assert [event.job_id for event in opened] == [job.id]


async def test_a_process_that_dies_three_times_has_failed_as_worker_lost_and_opens_an_incident(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    for _ in range(3):
        assert await state.release(session, await claim(session), reason="killed", counts=True)
    assert (await job_of(session, job.id)).state == JobState.FAILED
    assert (await session.scalars(select(Incident.job_id))).all() == [job.id]


async def test_a_job_that_was_asked_to_cancel_is_not_run_again_by_whoever_comes_next(
    session: AsyncSession, config: Settings
) -> None:
    async with session.begin():
        await define(session, "fraud")
        job = await trigger(session, config, "fraud")
        held = await claim(session)
        await state.request_cancel(session, job.id, actor="alice", reason=None)
        assert await state.release(session, held, reason="its worker was told to stop", counts=False)
    assert (await session.get_one(TrainingJob, job.id, populate_existing=True)).state == state.JobState.CANCELLED


async def test_a_worker_that_drains_does_not_use_up_an_attempt(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    for _ in range(5):
        assert await state.release(session, await claim(session), reason="drained", counts=False)
    assert (await job_of(session, job.id)).state == JobState.QUEUED


async def test_an_interrupted_job_goes_back_to_the_queue_though_another_one_waits_there(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    first = await trigger(session, config, "fraud", params={"epochs": 1})
    await claim(session)
    second = await trigger(session, config, "fraud", params={"epochs": 2})
    await expire_lease(session, first.id)
    await sweep(session)
    assert {(await job_of(session, j.id)).state for j in (first, second)} == {JobState.QUEUED}
    assert (await claim(session)).job_id == first.id


async def test_high_priority_is_claimed_first(session: AsyncSession, config: Settings) -> None:
    await define(session, "a", "b")
    await trigger(session, config, "a")
    urgent = await trigger(session, config, "b", priority="high")
    assert (await claim(session)).job_id == urgent.id


async def test_a_worker_takes_only_jobs_of_its_queues(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", queue="gpu")
    await trigger(session, config, "fraud")
    assert await state.claim(session, uuid.uuid4(), ["cpu"], LEASE) is None
    assert await state.claim(session, uuid.uuid4(), ["cpu", "gpu"], LEASE) is not None


async def test_a_waiting_job_is_cancelled_at_once(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    cancelled = await state.request_cancel(session, job.id, actor=str(ALICE), reason="no need")
    assert cancelled is not None
    assert cancelled.state == JobState.CANCELLED


async def test_what_has_ended_cannot_be_cancelled(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    await state.complete(session, await claim(session), candidate())
    assert await state.request_cancel(session, job.id, actor=str(ALICE), reason=None) is None
    assert (await job_of(session, job.id)).state == JobState.COMPLETED


async def test_a_running_job_is_cancelled_only_once_its_processes_are_gone(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    held = await claim(session)
    await state.request_cancel(session, job.id, actor=str(ALICE), reason=None)
    assert (await job_of(session, job.id)).state == JobState.RUNNING
    beat = await state.renew(session, held, LEASE)
    assert beat is not None
    assert beat.cancel_requested
    assert await state.confirm_cancelled(session, held)
    assert (await job_of(session, job.id)).state == JobState.CANCELLED


async def test_a_job_asked_to_cancel_whose_worker_died_is_cancelled_and_not_run_again(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    await claim(session)
    await state.request_cancel(session, job.id, actor=str(ALICE), reason=None)
    await expire_lease(session, job.id)
    await sweep(session)
    assert (await job_of(session, job.id)).state == JobState.CANCELLED


async def test_a_job_publishes_at_most_one_version(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    await trigger(session, config, "fraud")
    held = await claim(session)
    assert await state.complete(session, held, candidate()) == 1
    assert await state.complete(session, held, candidate()) is None
    assert await numbers(session, "fraud") == [1]


async def test_an_unanswered_bell_is_rung_again_but_not_all_the_time(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    job.ring_at = clock()
    await session.flush()
    assert [bell[0] for bell in await ring(session)] == [job.id]
    assert await ring(session) == []


async def test_every_change_of_state_leaves_an_event(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud", reason="drift")
    await state.complete(session, await claim(session), candidate())
    events = (await session.scalars(select(Event).where(Event.job_id == job.id).order_by(Event.id))).all()
    assert [(e.kind, e.after) for e in events] == [
        ("job.accepted", "queued"),
        ("job.started", "running"),
        ("job.completed", "completed"),
    ]
    assert (events[0].actor, events[0].reason) == (str(ALICE), "drift")
