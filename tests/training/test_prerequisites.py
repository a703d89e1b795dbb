"""Every check has a figure that anyone can read before they trigger, and admission decides by the same list."""

from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data.tables import DataQuality, Sample
from app.db import clock, seconds
from app.definitions.service import apply, resolve_model
from app.errors import RefitError, Refused
from app.events.tables import Event
from app.incidents.service import open_incident
from app.registry import swap
from app.registry.swap import Change
from app.registry.tables import ModelVersion
from app.settings import Settings
from app.training import service, state
from app.training.admission import Prospect, prospect
from app.training.attempting import trigger_automatically
from app.training.checks import Check
from app.training.schemas import TriggerRequest
from app.training.service import Triggered
from app.training.tables import TrainingJob, Worker
from tests.factories import ALICE, TRAINER, candidate, claim, define, definition, trigger

AT_ONCE = {"triggers": {"cooldown_minutes": 0, "weekly_budget": 50}}


async def look(session: AsyncSession, settings: Settings) -> tuple[Prospect, dict[str, Check]]:
    found = await prospect(session, settings, await resolve_model(session, "fraud"), ALICE)
    return found, {check.code: check for check in found.checks}


async def sign_on(session: AsyncSession, queue: str, **more: Any) -> None:
    lease = clock() + seconds(60)
    values = {"id": "00000000-0000-0000-0000-000000000001", "host": "h", "pid": 1, "queues": [queue]}
    await session.execute(insert(Worker).values(values | {"concurrency": 1, "lease_until": lease} | more))


async def post(session: AsyncSession, key: str) -> None:
    await session.execute(insert(Sample).values(model="fraud", key=key, row={"id": key, "y": 1}))


async def by_itself(session: AsyncSession, settings: Settings, trigger: str = "monitor") -> Triggered | RefitError:
    return await trigger_automatically(session, settings, TriggerRequest(model="fraud"), TRAINER, trigger=trigger)


async def refused_by_the_gate(session: AsyncSession, settings: Settings, verdict: str = "fail") -> None:
    found = await by_itself(session, settings)
    assert isinstance(found, Triggered)
    await state.complete(session, await claim(session), candidate(verdict=verdict))


async def test_every_check_is_shown_with_its_figure(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", prerequisites={"min_new_samples": 5})
    await session.execute(insert(DataQuality).values(model="fraud", status="critical", source="nightly"))
    await session.execute(insert(DataQuality).values(model=None, status="warning", source="schema"))
    incident = await open_incident(session, severity="P1", title="on fire", actor="test")
    await post(session, "a")
    found, checks = await look(session, config)
    assert not found.admitted
    assert {code: (check.value, check.required, check.passed) for code, check in checks.items()} == {
        "training_disabled": (True, True, True),
        "job_waiting": (0, 0, True),
        "data_quality_critical": ("critical", "not critical", False),
        "open_p1_incident": (1, 0, False),
        "insufficient_new_samples": (1, 5, False),
        "no_live_worker": (0, 1, False),
        "cooldown": (None, 60, True),
        "weekly_budget": (0, 7, True),
        "nothing_changed": ([], "new rows, another definition or another active version", True),
        "candidate_waits": (None, None, True),
    }
    assert checks["data_quality_critical"].details == {"sources": {"nightly": "critical", "schema": "warning"}}
    assert checks["open_p1_incident"].details == {"incidents": [incident.id]}


async def test_what_is_shown_as_failed_is_what_a_trigger_is_refused_for(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", prerequisites={"min_new_samples": 5})
    await open_incident(session, severity="P1", title="on fire", actor="test")
    off = config.model_copy(update={"training_enabled": False})
    _, checks = await look(session, off)
    with pytest.raises(Refused) as refused:
        await trigger(session, off, "fraud")
    shown = [code for code, check in checks.items() if not check.passed and check.binds == "every"]
    assert [reason["code"] for reason in refused.value.details["reasons"]] == shown
    assert [(r["value"], r["required"]) for r in refused.value.details["reasons"]] == [(False, True), (1, 0), (0, 5)]


async def test_new_rows_are_counted_for_whoever_looks_although_none_are_asked_for(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await post(session, "a")
    found, checks = await look(session, config)
    assert (checks["insufficient_new_samples"].value, checks["insufficient_new_samples"].passed) == (1, True)
    assert found.admitted


async def test_a_source_that_cannot_be_asked_is_shown_with_its_own_reason(
    session: AsyncSession, config: Settings
) -> None:
    data = {"source": "file", "path": "/nowhere/rows.csv", "label": "y"}
    await define(session, "fraud", prerequisites={"min_new_samples": 5}, data=data)
    found, checks = await look(session, config)
    assert (found.admitted, checks["file_not_found"].passed, checks["file_not_found"].value) == (False, False, None)
    with pytest.raises(RefitError) as refused:
        await trigger(session, config, "fraud")
    assert (refused.value.status, refused.value.code) == (422, "file_not_found")


async def test_a_missing_worker_is_a_warning_unless_the_definition_says_otherwise(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    found, checks = await look(session, config)
    assert (found.admitted, checks["no_live_worker"].binds, checks["no_live_worker"].passed) == (True, "nobody", False)
    await apply(session, "fraud", definition(prerequisites={"min_new_samples": 0, "live_worker": True}), actor="test")
    with pytest.raises(Refused) as refused:
        await trigger(session, config, "fraud")
    assert refused.value.code == "no_live_worker"
    await sign_on(session, "cpu")
    assert (await look(session, config))[0].admitted


async def test_a_worker_of_another_queue_or_one_that_is_gone_serves_nobody(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", queue="gpu")
    await sign_on(session, "cpu")
    assert (await look(session, config))[1]["no_live_worker"].value == 0
    gpu = {"name": "NVIDIA H100", "memory_total_mib": 81_559, "memory_free_mib": 80_994}
    await session.execute(text("DELETE FROM workers"))
    await sign_on(session, "gpu", gpus=[gpu])
    worker = (await look(session, config))[1]["no_live_worker"]
    assert (worker.value, worker.details) == (1, {"queue": "gpu", "gpus": [{"host": "h", **gpu}]})
    await session.execute(text("UPDATE workers SET lease_until = clock_timestamp() - interval '1 s'"))
    assert (await look(session, config))[1]["no_live_worker"].value == 0


async def test_the_view_is_for_viewers_and_names_both_answers(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", triggers={"weekly_budget": 1})
    answer = await client.get("/training/prerequisites?model=fraud")
    assert (answer.status_code, answer.json()["admitted"], answer.json()["admitted_automatically"]) == (200, True, True)
    assert all(isinstance(check["message"], str) for check in answer.json()["checks"])


async def test_what_force_passed_over_stands_on_the_job_and_in_the_record(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", prerequisites={"min_new_samples": 5})
    await open_incident(session, severity="P1", title="on fire", actor="test")
    job = await trigger(session, config, "fraud", force=True, reason="the board wants it")
    assert job.overridden is not None
    assert [(c["code"], c["value"], c["required"]) for c in job.overridden] == [
        ("open_p1_incident", 1, 0),
        ("insufficient_new_samples", 0, 5),
    ]
    event = (await session.scalars(select(Event).where(Event.kind == "job.accepted"))).one()
    assert event.evidence is not None
    assert event.evidence["overridden"] == job.overridden


async def test_force_that_was_not_needed_overrides_nothing(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud", force=True, reason="to be sure")
    assert (job.forced, job.overridden) == (True, None)


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
async def test_what_the_gate_refused_is_not_tried_again_by_itself_while_nothing_has_changed(
    session: AsyncSession, config: Settings, verdict: str
) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config, verdict)
    found = await by_itself(session, config)
    assert isinstance(found, Refused)
    assert [reason["code"] for reason in found.details["reasons"]] == ["nothing_changed"]
    assert (await service.trigger(session, config, TriggerRequest(model="fraud"), TRAINER)).outcome == "accepted"


async def test_after_a_swap_the_next_automatic_training_may_begin(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config, "pass")
    await swap.stage(session, Change("fraud", "refit"), 1)
    await swap.reload(session, Change("fraud", "alice"), watch_minutes=0)
    assert isinstance(await by_itself(session, config), Triggered)


async def test_while_a_candidate_waits_to_be_reloaded_no_other_is_trained_by_itself(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config, "pass")
    # A hold keeps it from standby, or it stands by: it waits in either case.
    for _ in range(2):
        found = await by_itself(session, config)
        assert isinstance(found, Refused)
        assert found.code == "candidate_waits"
        assert "Version 1 passed the gate and waits to be staged or reloaded." in found.message
        assert "refit reload fraud" in str(found.remedy)
        await swap.stage(session, Change("fraud", "refit", "passed the gate"), 1)
    assert (await look(session, config))[1]["candidate_waits"].value == 1
    assert (await service.trigger(session, config, TriggerRequest(model="fraud"), TRAINER)).outcome == "accepted"


async def test_what_was_active_or_passed_against_another_version_does_not_wait(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config, "pass")
    await swap.stage(session, Change("fraud", "refit"), 1)
    await swap.reload(session, Change("fraud", "alice"), watch_minutes=0)
    assert (await look(session, config))[1]["candidate_waits"].passed
    assert isinstance(await by_itself(session, config), Triggered)
    await state.complete(session, await claim(session), candidate(incumbent=1))
    await swap.stage(session, Change("fraud", "refit"), 2)
    assert (await look(session, config))[1]["candidate_waits"].value == 2
    await swap.reload(session, Change("fraud", "alice"), watch_minutes=0)
    await swap.rollback(session, Change("fraud", "alice", "worse"), 1, hold=False)
    # It stands by again, and was found to be worse: nobody will reload it.
    assert (await look(session, config))[1]["candidate_waits"].passed
    await session.execute(text("UPDATE model_slots SET hold_reason = NULL, standby = NULL"))
    assert (await look(session, config))[1]["nothing_changed"].passed is False
    await post(session, "a")
    assert isinstance(await by_itself(session, config), Triggered)
    await state.complete(session, await claim(session), candidate(incumbent=1))
    await swap.stage(session, Change("fraud", "refit"), 3)
    assert (await look(session, config))[1]["candidate_waits"].value == 3
    for otherwise in ("incumbent = NULL", "incumbent = 1, verdict = 'inconclusive'"):
        await session.execute(text(f"UPDATE model_versions SET {otherwise} WHERE number = 3"))
        assert (await look(session, config))[1]["candidate_waits"].passed


async def test_new_rows_another_definition_or_another_active_version_are_a_change(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config)
    await post(session, "a")
    assert (await look(session, config))[1]["nothing_changed"].value == ["rows"]
    await session.execute(text("DELETE FROM samples"))
    await apply(session, "fraud", definition(description="other words", **AT_ONCE), actor="test")
    assert not (await look(session, config))[1]["nothing_changed"].passed
    await apply(session, "fraud", definition(split={"by": "hash", "holdout": 0.2}, **AT_ONCE), actor="test")
    assert (await look(session, config))[1]["nothing_changed"].value == ["definition"]
    await refused_by_the_gate(session, config)
    assert not (await look(session, config))[1]["nothing_changed"].passed
    await session.execute(text("UPDATE model_slots SET active = 1"))
    assert (await look(session, config))[1]["nothing_changed"].value == ["active version"]
    assert isinstance(await by_itself(session, config), Triggered)


async def test_a_data_version_taken_since_is_a_change(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config)
    columns = "model, digest, rows, counts, dropped, duplicates, labels, columns, split, source, bytes"
    values = "'fraud', 'd', 1, '{}', '{}', 0, '[]', '[]', '{}', '{}', 1"
    await session.execute(text(f"INSERT INTO data_versions ({columns}) VALUES ({values})"))
    assert (await look(session, config))[1]["nothing_changed"].value == ["data version"]


async def test_the_same_refusal_of_an_automatic_trigger_stands_in_the_record_once(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", **AT_ONCE)
    await refused_by_the_gate(session, config)
    for _ in range(5):
        assert isinstance(await by_itself(session, config), Refused)
    await open_incident(session, severity="P1", title="on fire", actor="test")
    await by_itself(session, config)
    told = (await session.scalars(select(Event).where(Event.kind == "trigger.refused").order_by(Event.id))).all()
    assert [event.after for event in told] == ["nothing_changed", "open_p1_incident, nothing_changed"]
    assert told[0].evidence is not None
    assert told[0].evidence["reasons"][0]["code"] == "nothing_changed"


async def test_several_automatic_triggers_make_one_job_and_each_stands_in_the_record(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", **AT_ONCE)
    first, second = await by_itself(session, config), await by_itself(session, config, "data")
    assert isinstance(first, Triggered)
    assert isinstance(second, Triggered)
    assert first.job.id == second.job.id
    await by_itself(session, config, "data")
    event = (await session.scalars(select(Event).where(Event.kind == "trigger.coalesced"))).one()
    assert (event.job_id, event.evidence) == (first.job.id, {"trigger": "data", "made_by": str(TRAINER)})


async def test_a_caller_that_is_refused_a_thousand_times_stands_in_the_record_once(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", prerequisites={"min_new_samples": 5})
    for _ in range(10):
        assert (await client.post("/training/trigger", json={"model": "fraud"})).status_code == 409
    async with sessions() as session:
        events = (await session.scalars(select(Event).where(Event.kind == "trigger.refused"))).all()
        assert (await session.scalars(select(TrainingJob))).all() == []
        assert (await session.scalars(select(ModelVersion))).all() == []
    assert [event.after for event in events] == ["insufficient_new_samples"]
