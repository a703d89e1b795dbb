"""One try: signed so that a receiver can verify it, and over within its time whatever the receiver does."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.notifications.messages import Message
from app.notifications.sending import Address, Outcome, Sender
from tests.notifications.receiver import (
    Behaviour,
    answers,
    drips,
    drips_headers,
    floods,
    hangs,
    receiving,
)

SECRET, OTHER = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0", "whsec_YW5vdGhlci1zZWNyZXQ="
MESSAGE = Message(id="msg_1", title="title", text="text", body='{"type": "job.failed", "é": 1}'.encode())


async def send(sender: Sender, url: str, *secrets: str, **headers: str) -> Outcome:
    address = Address("webhook", url, headers, secrets or (SECRET,))
    return await sender.send(address, MESSAGE, datetime.now(UTC))


async def test_the_signature_is_right_in_whatever_zone_the_time_is_told(sender: Sender) -> None:
    now = datetime.now(timezone(timedelta(hours=2)))
    async with receiving() as receiver:
        await sender.send(Address("webhook", receiver.url, {}, (SECRET,)), MESSAGE, now)
    [got] = receiver.received
    assert Webhook(SECRET).verify(got.body, got.headers) == {"type": "job.failed", "é": 1}


async def test_a_message_carries_a_signature_that_standard_webhooks_verifies(sender: Sender) -> None:
    async with receiving() as receiver:
        assert (await send(sender, receiver.url, authorization="Bearer x")).error is None
    [got] = receiver.received
    assert Webhook(SECRET).verify(got.body, got.headers) == {"type": "job.failed", "é": 1}
    assert (got.id, got.headers["authorization"]) == ("msg_1", "Bearer x")
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body + b" ", got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(got.body, got.headers)


async def test_after_a_rotation_either_secret_verifies(sender: Sender) -> None:
    async with receiving() as receiver:
        await send(sender, receiver.url, OTHER, SECRET)
    [got] = receiver.received
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(got.body, got.headers)


@pytest.mark.parametrize("behave", [hangs, drips, drips_headers])
async def test_a_target_that_hangs_or_drips_is_left_after_its_time(sender: Sender, behave: Behaviour) -> None:
    async with receiving(behave) as receiver:
        outcome = await send(sender, receiver.url)
    assert outcome.error == "it did not finish its answer within 1 s"
    assert 900 < outcome.ms < 1_800


async def test_of_an_answer_without_end_no_more_is_read_than_a_little(sender: Sender) -> None:
    async with receiving(floods) as receiver:
        outcome = await send(sender, receiver.url)
    assert (outcome.status, outcome.error) == (200, None)
    assert outcome.ms < 900


async def test_a_redirect_is_a_failure_that_says_so_and_is_not_followed(sender: Sender) -> None:
    async with receiving() as elsewhere, receiving(answers(307, location=elsewhere.url)) as receiver:
        outcome = await send(sender, receiver.url)
    assert outcome.status == 307
    assert outcome.error is not None
    assert "redirect" in outcome.error
    assert elsewhere.received == []


async def test_a_proxy_of_the_environment_is_not_asked(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await send(sender, receiver.url)
    assert (len(receiver.received), len(proxy.received)) == (1, 0)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("how", ["seconds", "date"])
async def test_who_asks_for_patience_is_given_it(sender: Sender, status: int, how: str) -> None:
    told = "120" if how == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    async with receiving(answers(status, retry_after=told)) as receiver:
        outcome = await send(sender, receiver.url)
    assert outcome.retry_after == pytest.approx(120, abs=3)


@pytest.mark.parametrize("told", ["", "soon", "-1", "1e9", "9" * 400, "Wed, 99 Nov 2026 00:00:00 GMT", "²"])
async def test_patience_asked_for_in_no_known_words_is_at_most_a_day(sender: Sender, told: str) -> None:
    async with receiving(answers(503, retry_after=told)) as receiver:
        outcome = await send(sender, receiver.url)
    assert outcome.status == 503
    assert outcome.retry_after in (None, 86_400.0)


async def test_nobody_there_and_a_broken_answer_are_failures_in_words(sender: Sender) -> None:
    async def nonsense(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ICY 200 nonsense\r\n\r\n")

    async with receiving() as gone:
        pass
    refused = await send(sender, gone.url)
    assert refused.error is not None
    assert refused.error.startswith("no connection")
    async with receiving(nonsense) as receiver:
        broken = await send(sender, receiver.url)
    assert broken.error is not None
    assert broken.error.startswith("the connection broke")


async def test_neither_log_nor_error_nor_repr_tells_a_secret(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with receiving(answers(500)) as receiver:
        outcome = await send(sender, receiver.url, token="header-is-secret")
    shown = f"{caplog.text} {outcome} {Address('webhook', receiver.url, {'token': 'header-is-secret'}, (SECRET,))}"
    assert not any(secret in shown for secret in ("path-is-secret", "header-is-secret", SECRET))
