"""What a trigger is answered: accepted, replayed, coalesced, or refused with every check named."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.roles import Principal, Role
from app.data.tables import DataQuality, Sample
from app.db import clock
from app.definitions.tables import Model
from app.errors import Forbidden, Refused
from app.incidents.service import close_incident, open_incident
from app.settings import Settings
from app.training import service, state
from app.training.schedule import fire_due, last_due
from app.training.schemas import TriggerRequest
from app.training.tables import ScheduleFire, TrainingJob
from tests.factories import ALICE, TRAINER, candidate, claim, define, trigger


@pytest.fixture
async def fraud(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")


async def ask(client: httpx.AsyncClient, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/training/trigger", json={"model_type": "classifier"} | body, headers=headers)


async def test_a_trigger_makes_a_job_and_says_where_it_is(client: httpx.AsyncClient, fraud: None) -> None:
    answer = await ask(client, reason="drift")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/training/jobs/{job['job_id']}"
    assert (job["outcome"], job["status"], job["model"], job["reason"]) == ("accepted", "queued", "fraud", "drift")
    [warning] = job["warnings"]
    assert warning.startswith("No live worker serves the queue cpu: the job waits until one comes. Start ")


async def test_a_job_that_nobody_will_come_for_is_told_how_somebody_comes(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", queue="gpu")
    [warning] = (await ask(client)).json()["warnings"]
    way_out = "Start a worker with REFIT_QUEUES=gpu, or Refit itself again with `refit up --queues cpu,gpu`."
    assert warning.endswith(way_out)
    [check] = [
        each
        for each in (await client.get("/training/prerequisites")).json()["checks"]
        if each["code"] == "no_live_worker"
    ]
    assert check["remedy"] == way_out


async def test_equal_triggers_at_once_make_one_job(
    client: httpx.AsyncClient, fraud: None, session: AsyncSession
) -> None:
    answers = await asyncio.gather(*(ask(client) for _ in range(50)))
    assert {a.status_code for a in answers} == {200, 202}
    assert sorted(a.json()["outcome"] for a in answers) == ["accepted"] + ["coalesced"] * 49
    assert await session.scalar(select(func.count()).select_from(TrainingJob)) == 1


async def test_an_equal_trigger_joins_the_job_that_runs(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    await claim(session)
    assert (await trigger(session, config, "fraud")).id == job.id


async def test_nobody_is_given_a_job_that_is_being_cancelled(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud")
    await claim(session)
    await state.request_cancel(session, job.id, actor="test", reason=None)
    assert (await trigger(session, config, "fraud")).id != job.id


async def test_the_same_idempotency_key_gets_the_same_job_also_after_it_ended(
    client: httpx.AsyncClient, fraud: None, sessions: async_sessionmaker[AsyncSession]
) -> None:
    first = await ask(client, key="k")
    async with sessions() as session, session.begin():
        await state.complete(session, await claim(session), candidate())
    again = await ask(client, key="k")
    assert (again.status_code, again.json()["outcome"]) == (200, "replayed")
    assert again.json()["job_id"] == first.json()["job_id"]


async def test_the_same_idempotency_key_with_another_body_is_refused(client: httpx.AsyncClient, fraud: None) -> None:
    await ask(client, key="k")
    other = await ask(client, key="k", params={"epochs": 3})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_idempotency_keys_of_two_callers_have_nothing_to_do_with_each_other(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    jobs = set()
    for principal, epochs in ((ALICE, 1), (TRAINER, 2)):
        request = TriggerRequest(model="fraud", params={"epochs": epochs})
        job = (await service.trigger(session, config, request, principal, idempotency_key="k")).job
        await state.request_cancel(session, job.id, actor="test", reason=None)
        jobs.add(job.id)
    assert len(jobs) == 2


async def test_a_second_waiting_job_of_a_model_is_refused_by_name(client: httpx.AsyncClient, fraud: None) -> None:
    first = (await ask(client)).json()["job_id"]
    refused = await ask(client, params={"epochs": 3})
    assert (refused.status_code, refused.json()["code"]) == (409, "job_waiting")
    assert f"refit jobs cancel {first}" in refused.json()["remedy"]


async def test_every_check_that_blocks_is_named(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", prerequisites={"min_new_samples": 5})
    await session.execute(insert(DataQuality).values(model=None, status="critical", source="nightly"))
    await open_incident(session, severity="P1", title="on fire", actor="test")
    with pytest.raises(Refused) as refused:
        await trigger(session, config, "fraud")
    assert [reason["code"] for reason in refused.value.details["reasons"]] == [
        "data_quality_critical",
        "open_p1_incident",
        "insufficient_new_samples",
    ]
    assert await session.scalar(select(func.count()).select_from(TrainingJob)) == 0


async def test_an_operator_may_force_with_a_reason_and_a_trainer_may_not(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", prerequisites={"min_new_samples": 5})
    request = TriggerRequest(model="fraud", force=True, reason="the board wants it")
    with pytest.raises(Forbidden):
        await service.trigger(session, config, request, TRAINER)
    operator = Principal("0", "operator", frozenset({Role.OPERATOR}))
    assert (await service.trigger(session, config, request, operator)).job.forced


async def test_force_does_not_pass_over_training_that_is_switched_off(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    off = config.model_copy(update={"training_enabled": False})
    with pytest.raises(Refused) as refused:
        await trigger(session, off, "fraud", force=True, reason="now")
    assert refused.value.code == "training_disabled"


async def test_a_closed_incident_and_one_of_another_model_block_nothing(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", "other")
    incident = await open_incident(session, severity="P1", title="on fire", actor="test")
    await close_incident(session, incident.id, actor="test", note="out")
    await open_incident(session, severity="P1", title="elsewhere", actor="test", model="other")
    await trigger(session, config, "fraud")


async def test_automatic_triggers_keep_the_cooldown_and_people_need_not(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await trigger(session, config, "fraud")
    await state.complete(session, await claim(session), candidate())
    request = TriggerRequest(model="fraud")
    with pytest.raises(Refused) as refused:
        await service.trigger(session, config, request, TRAINER, trigger="schedule")
    assert refused.value.code == "cooldown"
    assert (await service.trigger(session, config, request, TRAINER)).outcome == "accepted"


async def test_automatic_triggers_keep_the_weekly_budget(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", triggers={"cooldown_minutes": 0, "weekly_budget": 2})
    for n in range(2):
        await service.trigger(session, config, TriggerRequest(model="fraud"), TRAINER, trigger="schedule")
        await state.complete(session, await claim(session), candidate(verdict="fail"))
        await session.execute(insert(Sample).values(model="fraud", key=f"{n}", row={"y": 1}))
    with pytest.raises(Refused) as refused:
        await service.trigger(session, config, TriggerRequest(model="fraud"), TRAINER, trigger="schedule")
    assert refused.value.code == "weekly_budget"


async def test_a_schedule_fires_once_for_each_of_its_times(
    sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", triggers={"schedule": "* * * * *", "cooldown_minutes": 0})
        definition = "UPDATE model_definitions SET created_at = clock_timestamp() - interval '1 hour'"
        await session.execute(text(definition))

    async def fire() -> int:
        async with sessions() as session, session.begin():
            return len(await fire_due(session, config))

    assert sum(await asyncio.gather(*(fire() for _ in range(5)))) == 1
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(ScheduleFire)) == 1


async def test_a_schedule_does_not_fire_for_times_before_it_was_applied(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", triggers={"schedule": "* * * * *"})
    assert await fire_due(session, config) == []


async def test_the_newest_time_of_a_schedule_may_be_right_now(session: AsyncSession) -> None:
    now = (await session.scalars(select(clock()))).one().replace(second=0, microsecond=0)
    assert last_due("* * * * *", now) == now


NO_TRIGGERS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "classifier", "epochs": 3}, "invalid"),
    ({"params": {"epoch": 3}}, "invalid_params"),
    ({"params": {"epochs": "many"}}, "invalid_params"),
    ({"data_version": "newest"}, "invalid"),
    ({"force": True}, "invalid"),
    ({"model_type": "llm", "model": "fraud"}, "model_type_mismatch"),
]


async def test_a_trigger_that_cannot_be_is_refused_by_field(client: httpx.AsyncClient, fraud: None) -> None:
    for body, code in NO_TRIGGERS:
        answer = await client.post("/training/trigger", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), body


async def test_where_several_models_could_be_meant_the_names_are_told(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", "churn")
    answer = await ask(client)
    assert (answer.status_code, answer.json()["models"]) == (422, ["churn", "fraud"])
    async with sessions() as session, session.begin():
        await define(session, "classifier")
    assert (await ask(client)).json()["model"] == "classifier"


async def test_status_answers_304_while_nothing_changed_and_waits_for_a_change(
    client: httpx.AsyncClient, fraud: None, sessions: async_sessionmaker[AsyncSession]
) -> None:
    job_id = (await ask(client)).json()["job_id"]
    first = await client.get("/training/status")
    same = {"If-None-Match": first.headers["ETag"]}
    assert (await client.get("/training/status", headers=same)).status_code == 304
    waiting = asyncio.create_task(client.get("/training/status?wait=20", headers=same))
    async with sessions() as session, session.begin():
        await state.request_cancel(session, job_id, actor="test", reason=None)
    async with asyncio.timeout(5):
        assert (await waiting).json()["status"] == "cancelled"


async def test_the_event_stream_tells_a_job_from_its_acceptance_to_its_end(
    client: httpx.AsyncClient, fraud: None, sessions: async_sessionmaker[AsyncSession]
) -> None:
    job_id = (await ask(client)).json()["job_id"]
    async with sessions() as session, session.begin():
        await state.complete(session, await claim(session), candidate())
    stream = (await client.get(f"/training/jobs/{job_id}/events")).text
    kinds = [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: ")]
    assert kinds == ["job.accepted", "job.started", "job.completed", "progress", "end"]
    ids = [line.removeprefix("id: ") for line in stream.splitlines() if line.startswith("id: ")]
    later = (await client.get(f"/training/jobs/{job_id}/events", headers={"Last-Event-ID": ids[1]})).text
    assert "job.started" not in later
    assert "job.completed" in later


async def test_jobs_are_listed_page_by_page_and_none_is_left_out(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    names = ["a", "b", "c", "d", "e"]
    async with sessions() as session, session.begin():
        await define(session, *names)
        for name in names:
            await trigger(session, config, name)
    seen: list[str] = []
    after = ""
    while True:
        page = (await client.get(f"/training/jobs?limit=2{after}")).json()
        seen += [job["model"] for job in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next']}"
    assert seen == names[::-1]


async def test_a_resumed_job_asks_for_the_same_and_continues_the_checkpoint(
    client: httpx.AsyncClient, fraud: None
) -> None:
    job = (await ask(client, params={"epochs": 3})).json()
    refused = await client.post(f"/training/jobs/{job['job_id']}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_resumable")
    await client.post(f"/training/jobs/{job['job_id']}/cancel", json={"reason": "later"})
    resumed = (await client.post(f"/training/jobs/{job['job_id']}/resume")).json()
    assert (resumed["resumes"], resumed["params"], resumed["status"]) == (job["job_id"], {"epochs": 3}, "queued")
    again = await client.post(f"/training/jobs/{job['job_id']}/resume")
    assert again.json()["job_id"] == resumed["job_id"]


async def test_a_model_row_is_never_held_by_a_trigger_that_was_refused(
    sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", prerequisites={"min_new_samples": 5})
    for _ in range(2):
        with pytest.raises(Refused):
            async with sessions() as session, session.begin():
                await trigger(session, config, "fraud")
    async with sessions() as session, session.begin():
        locked = select(Model).with_for_update(nowait=True)
        assert (await session.scalars(locked)).one().name == "fraud"


async def test_one_idempotency_key_for_two_models_at_once_is_refused_for_the_later(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "a", "b")
    answers = await asyncio.gather(*(ask(client, key="k", model=name) for name in ("a", "b")))
    assert sorted(answer.status_code for answer in answers) == [202, 422]


async def test_a_definition_that_was_changed_back_makes_no_other_job_of_an_equal_trigger(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    waits = await trigger(session, config, "fraud")
    await define(session, "fraud", description="other words")
    with pytest.raises(Refused, match="waits already"):
        await trigger(session, config, "fraud")
    await define(session, "fraud")
    assert (await trigger(session, config, "fraud")).id == waits.id
