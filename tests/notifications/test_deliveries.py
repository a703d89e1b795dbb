"""A message is sent until it is taken, at least once, always with the same id; what does not answer holds up nobody."""

import asyncio
import os
import sys
import time
from typing import Any

import pytest
from sqlalchemy import select, text

from app.notifications import chat, service
from app.notifications.deliveries import AT_ONCE, JITTER, _wait
from app.notifications.dispatcher import Dispatcher
from app.notifications.schemas import ChangeTarget, CreateTarget, PutRule
from app.notifications.sending import Outcome, Sender
from app.notifications.tables import Target, Try
from app.settings import Settings
from tests.notifications.receiver import answers, hangs, receiving
from tests.notifications.situations import Sessions, deliveries, events, happen, look, settle, tell


@pytest.fixture
def dispatcher(sessions: Sessions, config: Settings, sender: Sender) -> Dispatcher:
    return Dispatcher(sessions, config, sender)


async def target(sessions: Sessions, name: str = "pager") -> Target:
    async with sessions() as session:
        return await session.get_one(Target, name)


async def tries(sessions: Sessions) -> list[Try]:
    async with sessions() as session:
        return list((await session.scalars(select(Try).order_by(Try.id))).all())


async def test_an_event_is_told_in_a_sentence_and_with_its_numbers(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving() as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions, "slots.rolled_back", version=6, before="active 7", after="active 6", reason="worse")
        await settle(sessions, dispatcher)
    [got] = receiver.received
    assert got.json["type"] == "slots.rolled_back"
    assert got.data["text"] == "slots rolled back to version 6 by test: worse."
    [event] = await events(sessions, "slots.rolled_back")
    told: Any = got.data["event"]
    assert (told["id"], told["before"], told["after"]) == (event.id, "active 7", "active 6")
    assert got.id.startswith(f"msg_{event.id}_")


async def test_a_group_lists_all_of_its_events(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving() as receiver:
        await tell(sessions, receiver.url, group_seconds=0.5)
        for number in (1, 2, 3):
            await happen(sessions, job_id=number, evidence={"message": "out of memory"})
        await settle(sessions, dispatcher)
    [got] = receiver.received
    listed: Any = got.data["events"]
    assert [each["job_id"] for each in listed] == [1, 2, 3]
    assert str(got.data["text"]).splitlines() == [
        "3 events:",
        *(f"job {number} failed by test: out of memory." for number in (1, 2, 3)),
    ]


async def test_what_answers_500_is_tried_again_with_the_same_id_and_body(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    async with receiving(answers(500, 500, 200)) as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        [delivery] = await settle(sessions, dispatcher)
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 3, None)
    assert len({(got.id, got.body) for got in receiver.received}) == 1
    assert [(each.attempt, each.status) for each in await tries(sessions)] == [(1, 500), (2, 500), (3, 200)]
    assert (await target(sessions)).failures == 0


async def test_after_its_last_try_a_message_has_failed_and_an_event_says_so(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    async with receiving(answers(500)) as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        [delivery] = await settle(sessions, dispatcher)
        assert (delivery.state, len(receiver.received)) == ("failed", 4)
    [failed] = await events(sessions, "notification.failed")
    assert failed.evidence == {"target": "pager", "delivery": delivery.id, "message": delivery.message, "tries": 4}
    assert failed.reason == "it answered 500"


async def test_two_targets_that_are_dead_do_not_tell_each_other_for_ever(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    async with receiving(answers(500)) as one, receiving(answers(500)) as two:
        await tell(sessions, one.url, "one")
        await tell(sessions, two.url, "two")
        await happen(sessions)
        found = await settle(sessions, dispatcher)
    told = sorted((each.target, each.kind) for each in found)
    assert told.count(("one", "job.failed")) == told.count(("two", "job.failed")) == 1
    assert told.count(("one", "notification.failed")) == told.count(("two", "notification.failed")) == 1
    assert len(await events(sessions, "notification.failed")) == 2


async def test_a_target_that_is_gone_gets_nothing_more(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving(answers(410)) as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        [delivery] = await settle(sessions, dispatcher)
        await happen(sessions)
        await settle(sessions, dispatcher)
        assert len(receiver.received) == 1
    assert (delivery.state, delivery.attempts) == ("failed", 1)
    assert not (await target(sessions)).enabled
    assert len(await events(sessions, "notification_target.disabled")) == 1


async def test_who_asks_for_patience_is_not_called_before(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving(answers(429, retry_after="600")) as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        for _ in range(10):
            await dispatcher.turn()
            await asyncio.sleep(0.05)
        assert len(receiver.received) == 1
    [delivery] = await deliveries(sessions)
    assert delivery.next_at.timestamp() - time.time() > 590


def test_the_waits_are_those_of_standard_webhooks_and_no_shorter() -> None:
    waits = Settings().retry_seconds
    assert waits == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    drawn = [_wait(attempt, Outcome(500, "no"), waits) or 0 for attempt in range(1, 10) for _ in range(50)]
    expected = [wait for wait in waits for _ in range(50)]
    assert all(wait <= got <= wait * (1 + JITTER) for wait, got in zip(expected, drawn, strict=True))
    assert len(set(drawn)) > 400
    assert _wait(10, Outcome(500, "no"), waits) is None


async def test_two_who_send_at_once_send_each_message_once(
    sessions: Sessions, config: Settings, sender: Sender
) -> None:
    async with receiving() as receiver:
        await tell(sessions, receiver.url)
        for _ in range(40):
            await happen(sessions)
        found = await settle(sessions, *(Dispatcher(sessions, config, sender) for _ in range(3)))
    sent = [got.id for got in receiver.received]
    assert len(sent) == len(set(sent)) == 40
    assert {each.state for each in found} == {"delivered"}


async def test_a_target_that_hangs_holds_up_no_other(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving(hangs) as hanging, receiving() as well:
        await tell(sessions, hanging.url, "hanging")
        for _ in range(50):
            await happen(sessions)
        await look(sessions)
        await tell(sessions, well.url, "well")
        for _ in range(50):
            await happen(sessions)
        began = time.monotonic()
        while len(well.received) < 50:
            await dispatcher.turn()
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 5
        assert len(hanging.received) <= AT_ONCE + 5
        await dispatcher.leave()


async def test_to_one_target_no_more_than_a_few_are_sent_at_once(
    sessions: Sessions, config: Settings, sender: Sender
) -> None:
    async def slowly(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with receiving(slowly) as receiver:
        await tell(sessions, receiver.url)
        for _ in range(12):
            await happen(sessions)
        await settle(sessions, Dispatcher(sessions, config, sender))
    assert receiver.most_at_once == AT_ONCE


async def start(config: Settings) -> asyncio.subprocess.Process:
    assert config.database_url is not None
    environment = os.environ | {
        "REFIT_DATABASE_URL": config.database_url,
        "REFIT_NOTIFICATION_NETWORKS": config.notification_networks,
        "REFIT_NOTIFICATION_TIMEOUT_SECONDS": str(config.notification_timeout_seconds),
        "REFIT_NOTIFICATION_RETRY_SECONDS": config.notification_retry_seconds,
    }
    module = "tests.notifications.dispatcher_process"
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=environment)


async def test_a_message_whose_sender_was_killed_is_sent_again_with_the_same_id(
    sessions: Sessions, config: Settings
) -> None:
    async def hang_first(n: int, writer: asyncio.StreamWriter) -> None:
        if n == 0:
            await hangs(n, writer)
        await answers(200)(n, writer)

    async with receiving(hang_first) as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        first = await start(config)
        while not receiver.received:
            await asyncio.sleep(0.01)
        first.kill()
        await first.wait()
        assert [each.state for each in await deliveries(sessions)] == ["pending"]
        second = await start(config)
        async with asyncio.timeout(20):
            while [each.state for each in await deliveries(sessions)] != ["delivered"]:
                await asyncio.sleep(0.05)
        second.kill()
        await second.wait()
    assert [got.id for got in receiver.received] == [receiver.received[0].id] * 2


async def test_who_lost_its_lease_writes_its_try_and_moves_nothing(
    sessions: Sessions, config: Settings, sender: Sender
) -> None:
    from app.notifications.deliveries import claim, finish

    async with receiving() as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        await look(sessions)
        async with sessions() as session, session.begin():
            [paused] = await claim(session, most=1, lease_seconds=-1)
        [delivered] = await settle(sessions, Dispatcher(sessions, config, sender))
        async with sessions() as session, session.begin():
            await finish(session, paused, Outcome(500, "too late"), ())
    [after] = await deliveries(sessions)
    assert (delivered.state, after.state, after.error) == ("delivered", "delivered", None)
    assert [each.error for each in await tries(sessions)] == [None, "too late"]


async def test_a_target_can_be_deleted_while_a_try_is_written_down(sessions: Sessions) -> None:
    from app.notifications.deliveries import claim, finish

    await tell(sessions, "http://127.0.0.1:1/")
    await happen(sessions)
    await look(sessions)
    async with sessions() as session, session.begin():
        [claimed] = await claim(session, most=1, lease_seconds=60)
        await service.delete_rule(session, "pager", "test")

    async def written() -> None:
        async with sessions() as session, session.begin():
            await finish(session, claimed, Outcome(500, "down"), (60.0,))

    async with sessions() as session, session.begin():
        await service.get_target(session, "pager", True)
        writing = asyncio.create_task(written())
        async with asyncio.timeout(10):
            while not await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
        await service.delete_target(session, "pager", "test")
    await writing
    [after] = await deliveries(sessions)
    assert (after.state, after.error) == ("failed", "its target was deleted")


async def test_a_message_is_delivered_again_with_its_id_when_it_is_asked_for(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    async with receiving(answers(500, 500, 500, 500, 200)) as receiver:
        await tell(sessions, receiver.url, kinds=["job.*"])
        await happen(sessions)
        [failed] = await settle(sessions, dispatcher)
        for _ in range(2):
            async with sessions() as session, session.begin():
                await service.redeliver(session, failed.id, "alice")
            [again] = await settle(sessions, dispatcher)
            assert (again.state, again.attempts) == ("delivered", 1)
    assert (failed.state, len(receiver.received), len({got.id for got in receiver.received})) == ("failed", 6, 1)
    assert len(await tries(sessions)) == 6


async def test_what_is_suppressed_is_mentioned_in_the_next_message(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving() as receiver:
        await tell(sessions, receiver.url, cooldown_seconds=600)
        for _ in range(3):
            await happen(sessions)
        await settle(sessions, dispatcher)
        async with sessions() as session, session.begin():
            await session.execute(text("UPDATE notification_cooldowns SET until = clock_timestamp()"))
        await happen(sessions)
        await settle(sessions, dispatcher)
    assert receiver.received[1].data["suppressed"] == 2
    assert "2 times more since the last message" in str(receiver.received[1].data["text"])


async def test_what_waits_for_a_disabled_target_is_sent_when_it_is_enabled(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    async with receiving() as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        await look(sessions)
        for enabled in (False, True):
            async with sessions() as session, session.begin():
                await service.change_target(session, "pager", ChangeTarget(enabled=enabled), "alice")
            await dispatcher.turn()
            await asyncio.sleep(0.1)
            assert len(receiver.received) == int(enabled)
        await dispatcher.leave()


async def test_what_was_to_be_sent_to_a_deleted_target_has_failed(sessions: Sessions, dispatcher: Dispatcher) -> None:
    async with receiving() as receiver:
        await tell(sessions, receiver.url)
        await happen(sessions)
        await look(sessions)
        async with sessions() as session, session.begin():
            await service.delete_rule(session, "pager", "alice")
            await service.delete_target(session, "pager", "alice")
        await dispatcher.turn()
    [delivery] = await deliveries(sessions)
    assert (delivery.state, delivery.error, receiver.received) == ("failed", "its target was deleted", [])


async def test_the_secret_before_the_last_rotation_signs_as_well(sessions: Sessions, dispatcher: Dispatcher) -> None:
    from standardwebhooks import Webhook

    async with receiving() as receiver:
        before = (await tell(sessions, receiver.url)).secret
        async with sessions() as session, session.begin():
            after = (await service.rotate(session, "pager", "alice")).secret
        await happen(sessions)
        await settle(sessions, dispatcher)
    [got] = receiver.received
    for secret in (before, after):
        Webhook(secret or "").verify(got.body, got.headers)
    assert before != after


@pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")
async def test_mail_and_chats_go_through_apprise(sessions: Sessions, dispatcher: Dispatcher) -> None:
    chat.check("json://localhost")  # its plugins take longer to load than a try lasts here
    async with receiving() as receiver:
        async with sessions() as session, session.begin():
            url = f"json://127.0.0.1:{receiver.port}/"
            await service.create_target(session, CreateTarget(name="chat", type="apprise", url=url), "test")
            rule = PutRule(target="chat", kinds=["job.failed"], group_seconds=0)
            await service.put_rule(session, "chat", rule, "test")
        await happen(sessions, job_id=7)
        [delivery] = await settle(sessions, dispatcher)
    assert delivery.state == "delivered"
    [got] = receiver.received
    assert got.json["message"] == "job 7 failed by test."
