"""Every event is looked at once: by whoever commits late too, and by one of several who look at the same time."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text

from app.events.record import record
from app.events.tables import Event
from app.notifications.outbox import MOST_EVENTS
from app.notifications.rules import DEFAULT_KINDS, matches, severity
from app.notifications.tables import Cooldown, Delivery, Rule
from tests.factories import define
from tests.notifications.situations import Sessions, deliveries, happen, look, outbox, tell

URL = "http://127.0.0.1:1/"


def event(kind: str = "job.failed", **what: Any) -> Event:
    return Event(kind=kind, actor="test", **what)


def rule(**asked: Any) -> Rule:
    told: dict[str, Any] = {"target": "pager", "model": None, "kinds": ["*"], "min_severity": None}
    return Rule(**told | asked)


@pytest.mark.parametrize(
    ("asked", "happened", "is_told"),
    [
        ({"kinds": ["job.*"]}, event("job.failed"), True),
        ({"kinds": ["job.*"]}, event("jobs.failed"), False),
        ({"kinds": ["job.failed"]}, event("job.failed_again"), False),
        ({"kinds": ["slots.rolled_back", "job.*"]}, event("slots.rolled_back"), True),
        ({"model": "fraud"}, event(model="fraud"), True),
        ({"model": "fraud"}, event(model="other"), False),
        ({"model": "fraud"}, event(model=None), False),
        ({"model": "fraud"}, event("incident.opened", model=None, after="P1"), True),
        ({"min_severity": "P2"}, event("incident.opened", after="P1"), True),
        ({"min_severity": "P2"}, event("incident.opened", after="P2"), True),
        ({"min_severity": "P2"}, event("incident.opened", after="P3"), False),
        ({"min_severity": "P2"}, event("incident.closed", evidence={"severity": "P4"}), False),
        ({"min_severity": "P2"}, event("incident.closed"), True),
        ({"min_severity": "P1"}, event("job.failed"), True),
        ({}, event("notification.failed", evidence={"target": "pager"}), False),
        ({}, event("notification.failed", evidence={"target": "mail"}), True),
    ],
)
def test_a_rule_tells_what_it_names(asked: dict[str, Any], happened: Event, is_told: bool) -> None:
    assert matches(rule(**asked), happened) is is_told


def test_the_default_rule_tells_of_what_wakes_somebody_and_not_of_every_day() -> None:
    default = rule(kinds=list(DEFAULT_KINDS))
    told = ["incident.opened", "watch.rolled_back", "monitor.breached", "slots.rolled_back", "job.failed"]
    untold = ["job.accepted", "stage.started", "slots.staged", "key.created", "notification_rule.set"]
    assert [matches(default, event(kind)) for kind in (*told, *untold)] == [True] * 5 + [False] * 5


def test_the_severity_of_what_is_no_incident_is_unknown() -> None:
    assert severity(event("job.failed", after="P1")) is None


async def test_an_event_whose_transaction_rolls_back_tells_nobody(sessions: Sessions) -> None:
    await tell(sessions, URL)
    async with sessions() as session, session.begin():
        await record(session, kind="job.failed", actor="test")
        await session.rollback()
    await look(sessions)
    assert await deliveries(sessions) == []


async def test_an_event_that_commits_after_a_later_one_is_told(sessions: Sessions) -> None:
    await tell(sessions, URL)
    async with sessions() as late, late.begin():
        await record(late, kind="job.failed", actor="late")
        await happen(sessions, "job.cancelled")
        await look(sessions)
        assert [each.kind for each in await deliveries(sessions)] == ["job.cancelled"]
    await look(sessions)
    assert [each.kind for each in await deliveries(sessions)] == ["job.cancelled", "job.failed"]


async def test_the_record_and_its_outbox_are_one_statement(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        said: list[str] = []
        connection = await session.connection()
        from sqlalchemy import event as listening

        def hear(_: Any, __: Any, statement: str, *___: Any) -> None:
            said.append(statement)

        listening.listen(connection.sync_connection, "before_cursor_execute", hear)
        await record(session, kind="job.failed", actor="test", evidence={"a": 1})
    assert len(said) == 1


async def test_several_who_look_at_once_make_one_message_an_event(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.notifications.outbox.BATCH", 3)
    await tell(sessions, URL)
    for _ in range(60):
        await happen(sessions)
    await asyncio.gather(*(look(sessions) for _ in range(6)))
    found = await deliveries(sessions)
    told = [id for delivery in found for id in delivery.events]
    assert len(told) == len(set(told)) == 60
    assert len({delivery.message for delivery in found}) == 60
    assert await outbox(sessions) == 0


async def test_who_dies_while_looking_loses_nothing_and_tells_nothing_twice(sessions: Sessions) -> None:
    await tell(sessions, URL)
    await happen(sessions)
    from app.notifications.outbox import drain

    async with sessions() as session, session.begin():
        assert await drain(session) == 1
        await session.rollback()
    await look(sessions)
    assert len(await deliveries(sessions)) == 1


async def test_what_happens_within_the_time_of_a_group_is_one_message(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", "other")
    await look(sessions)
    await tell(sessions, URL, group_seconds=60)
    await happen(sessions, "job.failed", model="fraud")
    await look(sessions)
    await happen(sessions, "job.failed", model="fraud")
    await look(sessions)
    [group] = await deliveries(sessions)
    assert (len(group.events), group.kind, group.model) == (2, "job.failed", "fraud")
    await happen(sessions, "job.cancelled", model="other")
    await look(sessions)
    [group] = await deliveries(sessions)
    assert (len(group.events), group.kind, group.model) == (3, "events.grouped", None)


async def test_a_group_that_was_tried_takes_no_more(sessions: Sessions) -> None:
    await tell(sessions, URL, group_seconds=60)
    await happen(sessions)
    await look(sessions)
    async with sessions() as session, session.begin():
        await session.execute(text("UPDATE notification_deliveries SET attempts = 1"))
    await happen(sessions)
    await look(sessions)
    assert [len(each.events) for each in await deliveries(sessions)] == [1, 1]


async def test_a_group_is_full_at_some_size_and_another_begins(sessions: Sessions) -> None:
    await tell(sessions, URL, group_seconds=60)
    async with sessions() as session, session.begin():
        for _ in range(MOST_EVENTS + 1):
            await record(session, kind="job.failed", actor="test")
    await look(sessions)
    assert [len(each.events) for each in await deliveries(sessions)] == [MOST_EVENTS, 1]


async def cool(sessions: Sessions) -> None:
    """As if every cooldown had passed."""
    async with sessions() as session, session.begin():
        await session.execute(text("UPDATE notification_cooldowns SET until = clock_timestamp()"))


async def test_the_same_is_not_told_again_within_its_cooldown_and_is_counted_in_the_next_message(
    sessions: Sessions,
) -> None:
    await tell(sessions, URL, cooldown_seconds=600)
    for _ in range(4):
        await happen(sessions)
    await look(sessions)
    assert len(await deliveries(sessions)) == 1
    await cool(sessions)
    await happen(sessions)
    await look(sessions)
    assert [each.suppressed for each in await deliveries(sessions)] == [0, 3]
    await cool(sessions)
    await happen(sessions)
    await look(sessions)
    assert [each.suppressed for each in await deliveries(sessions)] == [0, 3, 0]


async def test_another_model_kind_or_severity_is_other_news(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
    await look(sessions)
    await tell(sessions, URL, cooldown_seconds=600)
    happened: list[tuple[str, dict[str, Any]]] = [
        ("job.failed", {}),
        ("job.failed", {"model": "fraud"}),
        ("job.cancelled", {}),
        ("incident.opened", {"after": "P4"}),
        ("incident.opened", {"after": "P1"}),
    ]
    for kind, what in happened * 2:
        await happen(sessions, kind, **what)
    await look(sessions)
    assert len(await deliveries(sessions)) == 5


async def test_what_joins_a_message_that_is_not_sent_yet_needs_no_cooldown(sessions: Sessions) -> None:
    await tell(sessions, URL, cooldown_seconds=600, group_seconds=60)
    for _ in range(3):
        await happen(sessions)
        await look(sessions)
    [group] = await deliveries(sessions)
    assert (len(group.events), group.suppressed) == (3, 0)


async def test_several_who_look_at_once_keep_groups_and_cooldowns(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.notifications.outbox.BATCH", 3)
    await tell(sessions, URL, "grouped", group_seconds=60)
    await tell(sessions, URL, "cooled", cooldown_seconds=600)
    for n in range(40):
        await happen(sessions, reason=f"the {n}th")
    await asyncio.gather(*(look(sessions) for _ in range(6)))
    found = await deliveries(sessions)
    assert [len(each.events) for each in found if each.rule == "grouped"] == [40]
    async with sessions() as session:
        silent = await session.scalar(select(Cooldown.suppressed))
    assert len([each for each in found if each.rule == "cooled"]) + (silent or 0) == 40
    assert len([each for each in found if each.rule == "cooled"]) == 1


async def test_a_rule_or_a_target_that_is_off_tells_nothing(sessions: Sessions) -> None:
    await tell(sessions, URL, "off", enabled=False)
    await tell(sessions, URL, "gone")
    async with sessions() as session, session.begin():
        await session.execute(text("UPDATE notification_targets SET enabled = false WHERE name = 'gone'"))
    await happen(sessions)
    await look(sessions)
    async with sessions() as session:
        assert (await session.scalars(select(Delivery).where(Delivery.kind == "job.failed"))).all() == []
