"""What acts on a watch: it looks, establishes, rolls back and tells people, whoever dies in between."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock
from app.events.tables import Event
from app.incidents.tables import Incident
from app.registry import swap
from app.registry.swap import Action, Change
from app.registry.tables import ModelSlots, ReplicaSlots, SlotHistory
from app.settings import Settings
from app.watch import guard
from app.watch.tables import Watch
from tests import factories
from tests.monitoring.observed import answer_back, gated, serve

MODEL = "fraud"
# F1 of the positive label: 2 * 1,600 / (2 * 1,600 + 800) = .8, where the gate measured .9.
WORSE = {(1, 1): 1_600, (0, 0): 1_600, (1, 0): 400, (0, 1): 400}
AS_GOOD = {(1, 1): 1_800, (0, 0): 1_800, (1, 0): 200, (0, 1): 200}

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def swapped(sessions: Sessions, config: Settings) -> Sessions:
    """Version 2 of F1 .9 has just become active; version 1 is warm in standby."""
    async with sessions() as session, session.begin():
        await factories.define(session, MODEL, watch={"minutes": 30})
        for incumbent in (None, 1):
            number = await factories.version(session, config, MODEL, incumbent=incumbent)
            await gated(session, MODEL, number, f1=0.9)
            await swap.stage(session, Change(MODEL, "test"), number)
            await swap.reload(session, Change(MODEL, "test"), watch_minutes=30)
        await factories.replica(session, MODEL, warm=1, served=2)
    return sessions


async def tick(sessions: Sessions, store: Path) -> None:
    for chore in (lambda s: guard.guard(s, store), guard.act, guard.assure):
        async with sessions() as session, session.begin():
            await chore(session)


async def the_watch(sessions: Sessions) -> Watch:
    async with sessions() as session:
        return (await session.scalars(select(Watch).order_by(Watch.id.desc()).limit(1))).one()


async def active(sessions: Sessions) -> int | None:
    async with sessions() as session:
        return (await session.get_one(ModelSlots, MODEL)).active


async def kinds(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        query = select(Event.kind).where(Event.kind.startswith("watch.")).order_by(Event.id)
        return list((await session.scalars(query)).all())


async def incidents(sessions: Sessions) -> list[tuple[str, str]]:
    async with sessions() as session:
        return [(row.severity, row.title) for row in await session.scalars(select(Incident).order_by(Incident.id))]


async def end_its_time(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        await session.execute(update(Watch).values(until=clock()))


async def test_every_swap_is_watched_once_whoever_ticks(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    await tick(swapped, store)
    async with swapped() as session:
        found = (await session.scalars(select(Watch))).all()
    assert [(watch.version, watch.previous, watch.state) for watch in found] == [(2, 1, "watching")]
    assert await kinds(swapped) == ["watch.started"]


async def test_a_breach_of_f1_rolls_back_holds_and_calls_people_with_the_reason(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    watch = await the_watch(swapped)
    assert (watch.state, await active(swapped)) == ("rolled_back", 1)
    assert watch.reason is not None
    assert "F1 of y is 0.8000 of 4000 labels" in watch.reason
    assert await kinds(swapped) == ["watch.started", "watch.breached", "watch.rolled_back"]
    async with swapped() as session:
        slots = await session.get_one(ModelSlots, MODEL)
        assert watch.reason in str(slots.hold_reason)
    [(severity, title)] = await incidents(swapped)
    assert (severity, watch.reason in title) == ("P2", True)


async def test_a_version_as_good_as_promised_passes_when_its_time_is_over(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await serve(session, MODEL, 2, requests=500)
        await answer_back(session, MODEL, 2, AS_GOOD)
    await tick(swapped, store)
    assert (await the_watch(swapped)).state == "watching"
    await end_its_time(swapped)
    await tick(swapped, store)
    assert ((await the_watch(swapped)).state, await active(swapped)) == ("passed", 2)
    assert await incidents(swapped) == []


async def test_no_data_at_the_end_is_inconclusive_and_told(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    await end_its_time(swapped)
    await tick(swapped, store)
    watch = await the_watch(swapped)
    assert (watch.state, watch.reason) == (
        "inconclusive",
        "0 requests were answered in the whole watch; 20 are needed to say anything.",
    )
    assert await kinds(swapped) == ["watch.started", "watch.inconclusive"]


async def test_few_requests_of_many_rows_say_something(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await serve(session, MODEL, 2, requests=3, column=[500, 500, 500, 500, 0])
        await answer_back(session, MODEL, 2, AS_GOOD)
    await end_its_time(swapped)
    await tick(swapped, store)
    assert (await the_watch(swapped)).state == "passed"


async def test_a_guard_that_died_after_the_breach_is_followed_by_one_that_acts(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await answer_back(session, MODEL, 2, WORSE)
    async with swapped() as session, session.begin():
        await guard.guard(session, store)
    assert ((await the_watch(swapped)).breached_at is not None, await active(swapped)) == (True, 2)
    await tick(swapped, store)
    assert await active(swapped) == 1


async def test_two_guards_at_once_roll_back_once(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    await tick(swapped, store)
    async with swapped() as session:
        actions = (await session.scalars(select(SlotHistory.action).order_by(SlotHistory.id))).all()
    assert list(actions).count(Action.ROLLED_BACK) == 1


async def test_who_changes_the_slots_ends_the_watch_and_no_verdict_is_passed_on_the_next_version(
    swapped: Sessions, store: Path
) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        change = Change(MODEL, "alice", "slow")
        target, _ = await swap.restore(session, change, None)
        await swap.rollback(session, change, target, hold=False)
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    watch = await the_watch(swapped)
    assert (watch.state, watch.reason) == ("superseded", "Version 1 became active by alice (rolled back).")


async def test_what_a_version_did_before_it_came_back_within_the_minute_is_not_held_against_it_again(
    swapped: Sessions, store: Path
) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await answer_back(session, MODEL, 2, WORSE)
        change = Change(MODEL, "alice", "there and back")
        target, _ = await swap.restore(session, change, None)
        await swap.rollback(session, change, target, hold=False)
        await session.execute(update(ReplicaSlots).values(warm=2))
        await swap.reload(session, change, watch_minutes=30)
    await tick(swapped, store)
    watch = await the_watch(swapped)
    assert (watch.generation, watch.state, await active(swapped)) == (4, "watching", 2)
    assert watch.counts_from.second == 0
    assert watch.counts_from > watch.started_at


async def test_a_version_that_comes_back_later_is_judged_from_its_swap_on_whatever_other_models_did(
    swapped: Sessions, store: Path
) -> None:
    of: dict[str, Any] = {"action": "reloaded", "actor": "test", "revision": 0}
    async with swapped() as session, session.begin():
        await factories.define(session, "other")
        await session.execute(update(ModelSlots).where(ModelSlots.model == "other").values(generation=5))
        for model, generation, active, hours in (("other", 5, 1, 3), (MODEL, -1, 2, 2), (MODEL, 0, 1, 1)):
            at = clock() - timedelta(hours=hours)
            session.add(SlotHistory(**of, model=model, generation=generation, active=active, at=at))
    await tick(swapped, store)
    watch = await the_watch(swapped)
    assert watch.counts_from == watch.started_at


async def test_a_watch_that_stumbles_after_it_has_written_leaves_the_others_theirs(
    swapped: Sessions, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("of the test")

    monkeypatch.setattr(guard, "look", fails)
    async with swapped() as session, session.begin():
        await guard.guard(session, store)
    assert "of fraud stumbled (ValueError: of the test)" in caplog.text
    assert (await the_watch(swapped)).state == "watching"


async def test_who_was_faster_than_the_guard_is_not_undone(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await answer_back(session, MODEL, 2, WORSE)
    async with swapped() as session, session.begin():
        await guard.guard(session, store)
    async with swapped() as session, session.begin():
        change = Change(MODEL, "alice", "I saw it first")
        target, _ = await swap.restore(session, change, None)
        await swap.rollback(session, change, target, hold=False)
    async with swapped() as session, session.begin():
        await guard.act(session)
    await tick(swapped, store)
    watch = await the_watch(swapped)
    assert (watch.state, watch.reason) == ("superseded", "Version 1 became active by alice (rolled back).")


async def test_replicas_that_cannot_load_the_old_version_get_a_moment_and_are_then_left_out(
    swapped: Sessions, store: Path
) -> None:
    async with swapped() as session, session.begin():
        await factories.replica(session, MODEL, warm=None, served=2, host="cold")
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    assert await active(swapped) == 2
    async with swapped() as session, session.begin():
        await session.execute(update(Watch).values(breached_at=clock() - timedelta(seconds=5)))
    await tick(swapped, store)
    assert await active(swapped) == 1


async def test_a_breach_that_leads_to_nothing_calls_people(swapped: Sessions, store: Path) -> None:
    async with swapped() as session, session.begin():
        await session.execute(update(ReplicaSlots).values(warm=None))
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await session.execute(update(Watch).values(breached_at=clock() - timedelta(seconds=11)))
    await tick(swapped, store)
    await tick(swapped, store)
    assert await active(swapped) == 2
    [(severity, title)] = await incidents(swapped)
    assert severity == "P1"
    assert "failed its watch and is still there" in title
    async with swapped() as session:
        assert (await session.scalars(select(Incident.occurrences))).one() == 1


async def test_the_third_rollback_within_an_hour_is_left_to_people(swapped: Sessions, store: Path) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        past: dict[str, Any] = {"model": MODEL, "version": 2, "previous": 1, "state": "rolled_back"}
        for generation in (101, 102):
            times = dict.fromkeys(("started_at", "counts_from", "until", "ended_at"), clock())
            session.add(Watch(**past, **times, generation=generation))
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    async with swapped() as session:
        watch = (await session.scalars(select(Watch).where(Watch.generation == 2))).one()
        slots = await session.get_one(ModelSlots, MODEL)
    assert (watch.state, slots.active) == ("held", 2)
    assert slots.hold_reason is not None
    assert ("P1", True) in [(severity, "stays active" in title) for severity, title in await incidents(swapped)]


async def test_where_rollbacks_are_left_to_people_a_breach_holds_and_calls_them(swapped: Sessions, store: Path) -> None:
    async with swapped() as session, session.begin():
        await factories.define(session, MODEL, watch={"minutes": 30, "rollback": "manual"})
        await answer_back(session, MODEL, 2, WORSE)
    await tick(swapped, store)
    assert ((await the_watch(swapped)).state, await active(swapped)) == ("held", 2)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"requests": 1_000, "errors": 100}, "100 of 1000 requests failed"),
        ({"requests": 1_000, "seconds": 2.0}, "100.0% of 1000 requests took more than 1 s"),
    ],
)
async def test_errors_and_slowness_roll_back_without_any_label(
    swapped: Sessions, store: Path, seen: dict[str, Any], reason: str
) -> None:
    await tick(swapped, store)
    async with swapped() as session, session.begin():
        await serve(session, MODEL, 2, **seen)
    await tick(swapped, store)
    assert await active(swapped) == 1
    assert reason in str((await the_watch(swapped)).reason)
