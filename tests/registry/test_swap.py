"""The dual slot: who may change it, and what a change is bound to."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock, seconds
from app.errors import NotFound, Refused, Stale
from app.events.record import REFIT
from app.events.tables import Event
from app.registry import service, swap
from app.registry.promotion import promote
from app.registry.swap import TRANSITIONS, Action, Change, ReplicasNotReady
from app.registry.tables import ModelSlots, ModelVersion, ReplicaSlots, SlotHistory
from app.serving.replica import SLOTS
from app.settings import Settings
from tests.factories import define, replica, slots, version

FRAUD = Change("fraud", "alice", "of the test")
FORCED = Change("fraud", "alice", "of the test", force=True)


async def reload(session: AsyncSession, change: Change = FRAUD, watch_minutes: float = 0) -> None:
    await swap.reload(session, change, watch_minutes=watch_minutes)


async def with_active(session: AsyncSession, config: Settings) -> None:
    """Version 1 is active, nothing stands by."""
    await define(session, "fraud")
    await version(session, config, "fraud")
    await swap.stage(session, FRAUD, 1)
    await reload(session)


async def with_standby(session: AsyncSession, config: Settings) -> None:
    """Version 1 is active, version 2 passed against it and stands by."""
    await with_active(session, config)
    await version(session, config, "fraud", incumbent=1)
    await swap.stage(session, FRAUD, 2)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("column", ["active", "standby", "previous", "watch_until", "hold_reason"])
async def test_an_action_changes_the_slots_of_its_table_and_no_others(
    session: AsyncSession, config: Settings, action: Action, column: str
) -> None:
    await define(session, "fraud")
    row = await slots(session, "fraud")
    if column in TRANSITIONS[action]:
        assert (await swap._write(session, row, action, FRAUD, **{column: None})).changed
    else:
        with pytest.raises(ValueError, match="may not change"):
            await swap._write(session, row, action, FRAUD, **{column: None})


async def test_reload_swaps_active_and_standby_and_counts_a_generation(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await reload(session)
    row = await slots(session, "fraud")
    assert (row.active, row.standby, row.previous, row.generation) == (2, 1, 1, 2)


async def test_a_second_identical_reload_is_refused(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await reload(session)
    with pytest.raises(Refused) as refused:
        await reload(session, FORCED)
    assert refused.value.code == "standby_is_previous"


async def test_reload_is_refused_where_the_gate_compared_with_another_version(
    session: AsyncSession, config: Settings
) -> None:
    await with_standby(session, config)
    await version(session, config, "fraud", incumbent=1)
    await reload(session)
    with pytest.raises(Refused) as refused:
        await swap.stage(session, FORCED, 3)
    assert refused.value.code == "stale_gate"


async def test_reload_is_refused_where_the_standby_became_stale(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await session.execute(update(ModelSlots).values(active=None, generation=7))
    with pytest.raises(Refused) as refused:
        await reload(session, FORCED)
    assert refused.value.code == "stale_gate"


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
async def test_what_did_not_pass_never_stands_by(session: AsyncSession, config: Settings, verdict: str) -> None:
    await define(session, "fraud")
    await version(session, config, "fraud", verdict=verdict)
    await promote(session)
    assert (await slots(session, "fraud")).standby is None
    with pytest.raises(Refused) as refused:
        await swap.stage(session, FRAUD, 1)
    assert refused.value.code == f"verdict_{verdict}"


async def test_an_operator_may_force_an_inconclusive_verdict_but_never_a_failed_one(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await version(session, config, "fraud", verdict="fail")
    await version(session, config, "fraud", verdict="inconclusive")
    with pytest.raises(Refused):
        await swap.stage(session, FORCED, 1)
    assert (await swap.stage(session, FORCED, 2)).changed


async def test_reload_waits_for_every_live_replica_and_names_those_that_are_not_warm(
    session: AsyncSession, config: Settings
) -> None:
    await with_standby(session, config)
    await replica(session, "fraud", warm=2)
    cold = await replica(session, "fraud", warm=None, host="cold")
    with pytest.raises(ReplicasNotReady) as refused:
        await reload(session)
    assert [missing["replica"] for missing in refused.value.details["missing"]] == [str(cold)]
    assert (await slots(session, "fraud")).generation == 1


async def test_reload_does_not_wait_for_a_replica_whose_lease_ran_out(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await replica(session, "fraud", warm=2)
    await replica(session, "fraud", warm=None, alive=False)
    await reload(session)
    assert (await slots(session, "fraud")).active == 2


async def test_a_replica_cannot_renew_between_the_readiness_check_and_the_commit(
    sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        await with_standby(session, config)
    async with sessions() as reloading, sessions() as renewing:
        await reloading.begin()
        await reload(reloading)
        renewal = asyncio.create_task(renewing.execute(SLOTS))
        done, _ = await asyncio.wait({renewal}, timeout=0.3)
        assert not done
        await reloading.commit()
        assert [row.generation for row in await renewal] == [2]


async def test_two_reloads_at_once_make_one_swap(sessions: async_sessionmaker[AsyncSession], config: Settings) -> None:
    async with sessions() as session, session.begin():
        await with_standby(session, config)

    async def attempt() -> str:
        try:
            async with sessions() as session, session.begin():
                await reload(session)
        except Refused as refused:
            return refused.code
        return "swapped"

    outcomes = await asyncio.gather(*(attempt() for _ in range(6)))
    assert sorted(outcomes) == ["standby_is_previous"] * 5 + ["swapped"]


async def test_reload_is_refused_where_the_caller_expected_other_slots(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    row = await slots(session, "fraud")
    for change in (
        Change("fraud", "alice", expected_active=2),
        Change("fraud", "alice", expected_revision=row.revision - 1),
    ):
        with pytest.raises(Stale):
            await reload(session, change)
    await reload(session, Change("fraud", "alice", expected_active=1, expected_revision=row.revision))


async def test_a_hold_stops_reload_and_automation_but_not_rollback(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await swap.hold(session, FRAUD)
    with pytest.raises(Refused) as refused:
        await reload(session)
    assert refused.value.code == "held"
    await reload(session, FORCED)
    await version(session, config, "fraud", incumbent=2)
    await promote(session)
    assert (await slots(session, "fraud")).standby == 1
    target, _ = await swap.restore(session, FRAUD, None)
    await swap.rollback(session, FRAUD, target, hold=True)
    assert (await slots(session, "fraud")).active == 1


async def test_rollback_goes_to_the_version_before_and_sets_a_hold(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await reload(session)
    target, _ = await swap.restore(session, FRAUD, None)
    await swap.rollback(session, FRAUD, target, hold=True)
    row = await slots(session, "fraud")
    assert (row.active, row.standby, row.generation) == (1, 2, 3)
    assert row.hold_reason == "rolled back from version 2: of the test"


async def test_rolling_back_twice_changes_nothing_the_second_time(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await reload(session)
    for _ in range(2):
        target, _restored = await swap.restore(session, FRAUD, None)
        last = await swap.rollback(session, FRAUD, target, hold=True)
    assert not last.changed
    assert (await slots(session, "fraud")).active == 1


async def test_rollback_finds_the_version_before_although_another_one_stands_by(
    session: AsyncSession, config: Settings
) -> None:
    await with_standby(session, config)
    await reload(session)
    await version(session, config, "fraud", incumbent=2)
    await swap.stage(session, FRAUD, 3)
    target, restored = await swap.restore(session, FRAUD, None)
    assert (target, restored.slots.standby) == (1, 1)
    await swap.rollback(session, FRAUD, target, hold=True)
    assert (await slots(session, "fraud")).active == 1


async def test_without_a_version_before_there_is_nothing_to_roll_back_to(
    session: AsyncSession, config: Settings
) -> None:
    await with_active(session, config)
    with pytest.raises(Refused) as refused:
        await swap.restore(session, FRAUD, None)
    assert refused.value.code == "nothing_to_roll_back_to"
    assert refused.value.message == "No version of fraud was active before version 1."


async def test_a_model_that_never_had_an_active_version_says_so_and_how_to_get_one(session: AsyncSession) -> None:
    await define(session, "fraud")
    with pytest.raises(Refused) as refused:
        await swap.restore(session, FRAUD, None)
    assert refused.value.code == "nothing_to_roll_back_to"
    assert refused.value.message == "No version of fraud has ever been active."
    assert "refit trigger fraud --wait" in str(refused.value.remedy)


async def test_rollback_goes_only_to_versions_that_were_active_once(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await version(session, config, "fraud", incumbent=1)
    for never in (2, 3):  # the one stands by, the other nowhere
        with pytest.raises(Refused) as refused:
            await swap.restore(session, FRAUD, never)
        assert refused.value.code == "never_active"
    with pytest.raises(NotFound):
        await swap.restore(session, FRAUD, 9)


async def test_rollback_leaves_out_replicas_that_cannot_load_as_long_as_one_can(
    session: AsyncSession, config: Settings
) -> None:
    await with_standby(session, config)
    await reload(session)
    await replica(session, "fraud", warm=None, host="cold")
    target, _ = await swap.restore(session, FRAUD, None)
    with pytest.raises(ReplicasNotReady):
        await swap.rollback(session, FORCED, target, hold=True)
    await replica(session, "fraud", warm=1)
    swapped = await swap.rollback(session, FORCED, target, hold=True)
    assert len(swapped.left_out) == 1


async def test_the_rollback_target_of_a_running_watch_is_never_overwritten(
    session: AsyncSession, config: Settings
) -> None:
    await with_standby(session, config)
    await reload(session, watch_minutes=30)
    await version(session, config, "fraud", incumbent=2)
    await promote(session)
    with pytest.raises(Refused) as refused:
        await swap.stage(session, FORCED, 3)
    assert refused.value.code == "watch_running"
    await session.execute(update(ModelSlots).values(watch_until=clock() - seconds(1)))
    await promote(session)
    assert (await slots(session, "fraud")).standby == 3


async def test_what_is_byte_for_byte_active_or_was_rolled_back_by_refit_is_left_to_people(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud", promotion={"reload": "automatic"})
    for incumbent, artifact in ((None, "a" * 64), (1, "b" * 64)):
        await version(session, config, "fraud", incumbent=incumbent, artifact=artifact)
        await promote(session)
    assert (await slots(session, "fraud")).active == 2
    await version(session, config, "fraud", incumbent=2, artifact="b" * 64)
    await promote(session)
    target, _ = await swap.restore(session, FRAUD, None)
    await swap.rollback(session, Change("fraud", REFIT, "the watch found: worse"), target, hold=False)
    await version(session, config, "fraud", incumbent=1, artifact="b" * 64)
    await promote(session)
    assert ((await slots(session, "fraud")).active, (await slots(session, "fraud")).standby) == (1, 2)
    told = (await session.scalars(select(Event).where(Event.after == "nothing_new").order_by(Event.id))).all()
    assert [(event.version, str(event.reason).split("which ")[1]) for event in told] == [
        (3, "is active."),
        (4, "was rolled back: the watch found: worse"),
    ]


async def test_what_a_watch_rolled_back_comes_back_by_force_only(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await reload(session)
    target, _ = await swap.restore(session, FRAUD, None)
    await swap.rollback(session, Change("fraud", REFIT, "the watch found: worse"), target, hold=False)
    with pytest.raises(Refused, match=r"was rolled back at .*: the watch found: worse") as refused:
        await swap.reload(session, FRAUD, watch_minutes=0)
    assert refused.value.code == "was_rolled_back"
    await swap.reload(session, FORCED, watch_minutes=0)
    assert (await slots(session, "fraud")).active == 2


@pytest.mark.parametrize(
    ("then", "code"),
    [
        (update(ModelSlots).values(hold_reason="audit"), "held"),
        (update(ModelVersion).where(ModelVersion.number == 3).values(incumbent=1), "stale_gate"),
    ],
)
async def test_what_passed_and_is_not_staged_by_itself_says_why(
    session: AsyncSession, config: Settings, then: Any, code: str
) -> None:
    await with_standby(session, config)
    await reload(session)
    await version(session, config, "fraud", incumbent=2)
    await session.execute(then)
    await promote(session)
    told = (await session.scalars(select(Event).where(Event.kind == "slots.put_off"))).all()
    assert [(event.after, event.version) for event in told] == [(code, 3)]


async def test_what_passed_is_staged_by_itself_and_reloaded_only_where_the_definition_says_so(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "manual", promotion={"stage": "manual"})
    await define(session, "fraud")
    await define(session, "eager", promotion={"reload": "automatic"})
    for name in ("manual", "fraud", "eager"):
        await version(session, config, name)
    await promote(session)
    held = [await slots(session, name) for name in ("manual", "fraud", "eager")]
    assert [(row.active, row.standby) for row in held] == [(None, None), (None, 1), (1, None)]


async def test_automation_never_brings_back_what_was_rolled_back(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", promotion={"reload": "automatic"})
    await version(session, config, "fraud")
    await promote(session)
    await version(session, config, "fraud", incumbent=1)
    await promote(session)
    target, _ = await swap.restore(session, FRAUD, None)
    await swap.rollback(session, FRAUD, target, hold=False)
    await promote(session)
    assert (await slots(session, "fraud")).active == 1


async def test_automation_does_not_put_back_what_a_person_replaced_in_standby(
    session: AsyncSession, config: Settings
) -> None:
    await with_active(session, config)
    for _ in range(2):
        await version(session, config, "fraud", incumbent=1)
    await promote(session)
    await swap.stage(session, FRAUD, 2)
    await promote(session)
    assert (await slots(session, "fraud")).standby == 2


async def test_who_was_active_at_a_time_is_one_query(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    before = (await session.scalars(select(clock()))).one()
    await reload(session)
    then = [row for row, _ in await service.in_force(session, before, "fraud")]
    now = [row for row, _ in await service.in_force(session, before + timedelta(minutes=1), "fraud")]
    assert (then[0].active, now[0].active) == (1, 2)
    assert (now[0].actor, now[0].reason) == ("alice", "of the test")


async def test_what_was_live_names_who_made_it_so_although_others_have_changed_the_slots_since(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    async with sessions() as session, session.begin():
        await with_standby(session, config)
        await reload(session)
        await swap.hold(session, Change("fraud", "bob", "audit"))
        await define(session, "other")
    at = {"at": "2100-01-01T00:00:00Z"}
    for asked in (at, at | {"model": "fraud"}):
        [row] = (await client.get("/model/history", params=asked)).json()["data"]
        assert (row["active"], row["actor"], row["hold_reason"]) == (2, "bob", "audit")
        assert (row["made_active"]["actor"], row["made_active"]["action"]) == ("alice", "reloaded")
    assert (await client.get("/model/history", params=at | {"model": "absent"})).status_code == 404
    assert (await client.get("/model/history", params={"at": "2000-01-01T00:00:00Z"})).json()["data"] == []


async def test_what_was_live_is_told_of_every_model(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud", "spam")
    for model in ("spam", "fraud"):
        await version(session, config, model)
        await swap.stage(session, Change(model, "alice"), 1)
        await swap.reload(session, Change(model, "alice"), watch_minutes=0)
    now = (await session.scalars(select(clock()))).one()
    assert [(r.model, r.active) for r, _ in await service.in_force(session, now, None)] == [("fraud", 1), ("spam", 1)]


async def test_a_swap_that_was_forced_says_so_in_the_history(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await swap.hold(session, FRAUD)
    await swap.reload(session, Change("fraud", "carol", "now", force=True), watch_minutes=0)
    newest = (await session.scalars(select(SlotHistory).order_by(SlotHistory.id.desc()).limit(1))).one()
    assert newest.evidence == {"forced": True}


async def test_a_promotion_that_has_to_wait_says_why_once(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    await swap.reload(session, FRAUD, watch_minutes=30)
    await version(session, config, "fraud", incumbent=2)
    for _ in range(3):
        await promote(session)
    told = (await session.scalars(select(Event).where(Event.kind == "slots.put_off"))).all()
    assert [(event.after, event.version) for event in told] == [("watch_running", 3)]


async def test_every_change_of_the_slots_is_in_the_history_and_in_the_record(
    session: AsyncSession, config: Settings
) -> None:
    await with_standby(session, config)
    await reload(session)
    row = await slots(session, "fraud")
    history = (await session.scalars(select(SlotHistory).order_by(SlotHistory.id))).all()
    events = (await session.scalars(select(Event).where(Event.kind.startswith("slots.")))).all()
    assert [h.revision for h in history] == list(range(1, row.revision + 1))
    assert len(events) == row.revision


@pytest.mark.parametrize("table", ["events", "slot_history"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET actor = 'nobody'", "TRUNCATE {}"])
async def test_the_record_cannot_be_changed_by_anybody(session: AsyncSession, table: str, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        await session.execute(text(statement.format(table)))


async def test_a_replica_that_left_is_not_waited_for(session: AsyncSession, config: Settings) -> None:
    await with_standby(session, config)
    gone = await replica(session, "fraud", warm=None)
    await session.execute(delete(ReplicaSlots).where(ReplicaSlots.replica == gone))
    await reload(session)
    assert (await slots(session, "fraud")).active == 2
