"""Targets, rules and deliveries over HTTP: what is secret is shown once, and what cannot be is refused in words."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from standardwebhooks import Webhook

from app.auth.service import create_key
from app.notifications import chat
from tests.factories import define
from tests.notifications.receiver import answers, receiving
from tests.notifications.situations import Sessions, events, happen

HOOK = {"name": "pager", "url": "https://hooks.example.com/T0/secret?key=secret", "headers": {"X-Token": "secret"}}


async def make(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/notifications/targets", json=HOOK | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_secret_is_shown_once_and_nothing_that_may_be_one_ever(
    client: httpx.AsyncClient, sessions: Sessions
) -> None:
    made = await make(client)
    assert made["secret"].startswith("whsec_")
    assert (made["url"], made["headers"]) == ("https://hooks.example.com/…", ["X-Token"])
    await client.patch("/notifications/targets/pager", json={"headers": {"X-Other": "secret"}})
    rotated = (await client.post("/notifications/targets/pager/rotate")).json()
    assert rotated["secret"] not in (made["secret"], None)
    for path in ("/notifications/targets", "/notifications/targets/pager", "/events?limit=1000"):
        shown = (await client.get(path)).text
        assert not any(word in shown for word in ("/T0", "key=", '"secret"', made["secret"], rotated["secret"]))


async def test_of_an_apprise_url_nothing_but_its_scheme_is_shown() -> None:
    from app.notifications.schemas import masked
    from app.notifications.tables import Target

    assert masked(Target(type="apprise", url="tgram://123456:bottoken/chat")) == "tgram://…"
    assert masked(Target(type="webhook", url="https://a.example.com?token=x")) == "https://a.example.com/…"


NO_TARGETS: list[dict[str, Any]] = [
    {"url": "ftp://a.example.com/"},
    {"url": "https://user:password@a.example.com/"},
    {"url": "https://a.example.com/#part"},
    {"url": "https:///nowhere"},
    {"url": "https://a.example.com:99999/"},
    {"url": "https://[::1/"},
    {"url": "https://a.example.com/\r\nX: y"},
    {"url": "https://a.example.com/é"},
    {"headers": {"Host": "b.example.com"}},
    {"headers": {"Webhook-Id": "1"}},
    {"headers": {"X": "a\r\nY: b"}},
    {"headers": {"X Y": "a"}},
    {"headers": {"X": "a", "x": "b"}},
    {"headers": {"Content-Length": "1"}},
    {"name": "Pager"},
    {"name": "a/b"},
]


async def test_a_target_that_cannot_be_is_refused_and_not_told_back(client: httpx.AsyncClient) -> None:
    for wrong in NO_TARGETS:
        answer = await client.post("/notifications/targets", json=HOOK | wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), wrong
        assert "password" not in answer.text.replace("has a password in it", "")


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"X-Fine": "1", "Host": "b.example.com"}, "the header Host is Refit's own"),
        ({"X-Fine": "1", "Webhook-Signature": "1"}, "the header Webhook-Signature is Refit's own"),
        ({"X-Twice": "1", "x-twice": "2"}, "the header x-twice stands twice"),
    ],
)
async def test_a_header_that_cannot_be_sent_along_is_named(
    client: httpx.AsyncClient, headers: dict[str, str], named: str
) -> None:
    await make(client)
    for answer in (
        await client.post("/notifications/targets", json=HOOK | {"headers": headers}),
        await client.patch("/notifications/targets/pager", json={"headers": headers}),
    ):
        assert answer.status_code == 422
        assert named in answer.text


PRIVATE: list[str] = [
    "10.0.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0",
    "10.1",
    "167772161",
    "0x0a000001",
    "012.0.0.1",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "[fe80::1]",
    "[64:ff9b::a00:1]",
]


async def test_an_address_that_no_webhook_may_go_to_is_refused_when_it_is_named(client: httpx.AsyncClient) -> None:
    """By the words of the delivery that would have failed for ever."""
    await make(client)
    for host in PRIVATE:
        url = f"http://{host}:8080/hook"
        for answer in (
            await client.post("/notifications/targets", json={"name": "inside", "url": url}),
            await client.patch("/notifications/targets/pager", json={"url": url, "headers": {}}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "address_refused")
            assert answer.json()["detail"].endswith("is no public address.")
            assert "REFIT_NOTIFICATION_NETWORKS" in answer.json()["remedy"]
        assert [target["url"] for target in (await client.get("/notifications/targets")).json()] == [
            "https://hooks.example.com/…"
        ]


@pytest.mark.parametrize("host", ["1.1.1.1", "127.0.0.9", "[2606:4700::1111]", "no-such-host.invalid", "localhost"])
async def test_a_public_address_one_of_an_allowed_network_and_any_name_may_be_named(
    client: httpx.AsyncClient, host: str
) -> None:
    await make(client, url=f"http://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.com/T0",
        "http://hooks.example.com/T0",
        "https://hooks.example.com:8443/T0",
        "https://hooks.example.com.evil.example/T0",
    ],
)
async def test_headers_go_to_no_other_origin_unless_they_are_sent_again(client: httpx.AsyncClient, url: str) -> None:
    await make(client)
    refused = await client.patch("/notifications/targets/pager", json={"url": url})
    assert (refused.status_code, refused.json()["code"]) == (422, "headers_needed")
    assert (await client.get("/notifications/targets/pager")).json()["url"] == "https://hooks.example.com/…"
    dropped = await client.patch("/notifications/targets/pager", json={"url": url, "headers": {}})
    assert (dropped.status_code, dropped.json()["headers"]) == (200, [])
    assert (await client.patch("/notifications/targets/pager", json={"url": HOOK["url"]})).status_code == 200


@pytest.mark.parametrize("url", ["https://hooks.example.com/T1", "https://HOOKS.example.com:443/T1?x=y"])
async def test_another_path_of_the_same_origin_keeps_the_headers(client: httpx.AsyncClient, url: str) -> None:
    await make(client)
    changed = await client.patch("/notifications/targets/pager", json={"url": url})
    assert (changed.status_code, changed.json()["headers"]) == (200, ["X-Token"])


async def test_of_many_who_ask_for_a_message_again_one_is_heard(client: httpx.AsyncClient, sessions: Sessions) -> None:
    """Its target takes its time, so that it is on its way for as long as they ask."""
    asked = asyncio.Event()

    async def first_at_once_then_slowly(turn: int, writer: asyncio.StreamWriter) -> None:
        if turn:
            await asked.wait()
        await answers(204)(turn, writer)

    async with receiving(first_at_once_then_slowly) as receiver:
        await make(client, url=receiver.url)
        await client.put("/notifications/rules/jobs", json={"target": "pager", "kinds": ["job.*"], "group_seconds": 0})
        await happen(sessions)
        async with asyncio.timeout(10):
            while not (told := (await client.get("/notifications/deliveries?state=delivered")).json()["data"]):
                await asyncio.sleep(0.05)
        path = f"/notifications/deliveries/{told[0]['id']}/redeliver"
        got = await asyncio.gather(*(client.post(path) for _ in range(20)))
        asked.set()
    assert Counter(answer.status_code for answer in got) == {202: 1, 409: 19}
    assert {answer.json()["code"] for answer in got if answer.status_code == 409} == {"delivery_under_way"}
    assert len(await events(sessions, "notification.redelivered")) == 1


async def test_messages_of_a_name_that_never_was_are_not_an_empty_list(
    client: httpx.AsyncClient, sessions: Sessions
) -> None:
    for query, code in {"target": "target_not_found", "rule": "rule_not_found", "model": "model_not_found"}.items():
        answer = await client.get(f"/notifications/deliveries?{query}=nope")
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    await make(client)
    assert (await client.get("/notifications/deliveries?target=pager")).json()["data"] == []


async def test_messages_of_what_was_deleted_are_still_found(client: httpx.AsyncClient, sessions: Sessions) -> None:
    await make(client, url="http://127.0.0.1:1/")
    await client.put("/notifications/rules/jobs", json={"target": "pager", "kinds": ["job.*"], "group_seconds": 0})
    await happen(sessions)
    query = "/notifications/deliveries?target=pager&rule=jobs"
    async with asyncio.timeout(10):
        while not (await client.get(query)).json()["data"]:
            await asyncio.sleep(0.05)
    assert (await client.delete("/notifications/rules/jobs")).status_code == 200
    assert (await client.delete("/notifications/targets/pager")).status_code == 200
    assert len((await client.get(query)).json()["data"]) == 1
    assert (await client.get(f"{query}&after=1")).json()["data"] == []


async def test_without_apprise_its_targets_are_refused_with_the_way_out(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "find_spec", lambda _: None)
    asked = {"name": "mail", "type": "apprise", "url": "mailto://user:password@example.com"}
    answer = await client.post("/notifications/targets", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "apprise_missing")
    assert "refit[notifications]" in answer.json()["remedy"]


@pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")
async def test_an_apprise_url_of_no_service_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/notifications/targets", json={"name": "x", "type": "apprise", "url": "nothing://a"})
    assert (answer.status_code, answer.json()["code"]) == (422, "apprise_url")


async def test_a_name_is_taken_once_and_a_target_in_use_is_not_deleted(client: httpx.AsyncClient) -> None:
    await make(client)
    again = await client.post("/notifications/targets", json=HOOK)
    assert (again.status_code, again.json()["code"]) == (409, "target_exists")
    await client.put("/notifications/rules/on-call", json={"target": "pager"})
    refused = await client.delete("/notifications/targets/pager")
    assert (refused.status_code, refused.json()["code"], refused.json()["rules"]) == (409, "target_in_use", ["on-call"])
    await client.delete("/notifications/rules/on-call")
    assert (await client.delete("/notifications/targets/pager")).status_code == 200
    assert (await client.get("/notifications/targets")).json() == []


async def test_a_rule_with_a_target_and_nothing_else_is_a_good_one(client: httpx.AsyncClient) -> None:
    await make(client)
    rule = (await client.put("/notifications/rules/on-call", json={"target": "pager"})).json()
    assert {"incident.*", "watch.*", "slots.rolled_back", "job.failed"} <= set(rule["kinds"])
    assert (rule["group_seconds"], rule["cooldown_seconds"], rule["enabled"]) == (30, 900, True)
    replaced = await client.put("/notifications/rules/on-call", json={"target": "pager", "kinds": ["job.*"]})
    assert replaced.json()["kinds"] == ["job.*"]
    assert (await client.get("/notifications/rules")).json() == [replaced.json()]


NO_RULES: list[tuple[dict[str, Any], str]] = [
    ({"target": "nobody"}, "target_not_found"),
    ({"target": "pager", "model": "nothing"}, "model_not_found"),
    ({"target": "pager", "kinds": []}, "invalid"),
    ({"target": "pager", "kinds": ["job"]}, "invalid"),
    ({"target": "pager", "kinds": ["job.**"]}, "invalid"),
    ({"target": "pager", "kinds": ["incidents.*"]}, "invalid"),
    ({"target": "pager", "min_severity": "P5"}, "invalid"),
    ({"target": "pager", "group_seconds": -1}, "invalid"),
    ({"target": "pager", "cooldown_seconds": 1e12}, "invalid"),
]


async def test_a_rule_that_cannot_be_is_refused(client: httpx.AsyncClient) -> None:
    await make(client)
    for body, code in NO_RULES:
        answer = await client.put("/notifications/rules/on-call", json=body)
        assert answer.json()["code"] == code, body


async def test_a_test_send_answers_with_what_became_of_it(client: httpx.AsyncClient) -> None:
    async with receiving(answers(200, 500)) as receiver:
        secret = (await make(client, url=receiver.url))["secret"]
        reached = (await client.post("/notifications/targets/pager/test")).json()
        failed = (await client.post("/notifications/targets/pager/test")).json()
    assert (reached["delivered"], reached["status"], reached["error"]) == (True, 200, None)
    assert (failed["delivered"], failed["status"], failed["error"]) == (False, 500, "it answered 500")
    [got, _] = receiver.received
    assert got.json["type"] == "notification.test"
    Webhook(secret).verify(got.body, got.headers)
    assert (await client.get("/notifications/deliveries")).json()["data"] == []


async def test_the_service_tells_by_itself_and_keeps_each_try(client: httpx.AsyncClient, sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
    async with receiving(answers(500, 200)) as receiver:
        await make(client, url=receiver.url)
        rule = {"target": "pager", "kinds": ["incident.*"], "model": "fraud", "group_seconds": 0}
        await client.put("/notifications/rules/on-call", json=rule)
        body = {"severity": "P2", "title": "labels are late", "model": "fraud"}
        await client.post("/incidents", json=body)
        await happen(sessions, "job.failed", model="fraud")
        async with asyncio.timeout(10):
            while not (await client.get("/notifications/deliveries?state=delivered")).json()["data"]:
                await asyncio.sleep(0.1)
        page = (await client.get("/notifications/deliveries?target=pager&model=fraud&rule=on-call")).json()
        [told] = page["data"]
        shown = (await client.get(f"/notifications/deliveries/{told['id']}")).json()
        assert [each["status"] for each in shown["tries"]] == [500, 200]
        again = await client.post(f"/notifications/deliveries/{told['id']}/redeliver")
        assert again.status_code == 202
        async with asyncio.timeout(10):
            while len(receiver.received) < 3:
                await asyncio.sleep(0.05)
    assert {got.id for got in receiver.received} == {told["message"]}
    assert receiver.received[0].data["text"] == (
        f"fraud: P2 incident opened by {(await events(sessions, 'incident.opened'))[0].actor}: labels are late."
    )
    metrics = (await client.get("/metrics")).text
    assert "refit_outbox" in metrics
    assert 'refit_notifications{state="pending"}' in metrics


async def test_deliveries_come_in_pages(client: httpx.AsyncClient, sessions: Sessions) -> None:
    await make(client, url="http://127.0.0.1:1/")
    rule = {"target": "pager", "kinds": ["job.*"], "group_seconds": 0, "cooldown_seconds": 0}
    await client.put("/notifications/rules/jobs", json=rule)
    for _ in range(3):
        await happen(sessions)
    async with asyncio.timeout(10):
        while len((await client.get("/notifications/deliveries?limit=2")).json()["data"]) < 2:
            await asyncio.sleep(0.1)
    first = (await client.get("/notifications/deliveries?limit=1")).json()
    second = (await client.get(f"/notifications/deliveries?limit=1&after={first['next']}")).json()
    assert first["has_more"]
    assert first["data"][0]["id"] > second["data"][0]["id"]


async def test_who_may_look_may_not_change_and_a_viewer_sees_no_secret(
    api: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    await make(client)
    async with sessions() as session, session.begin():
        key = await create_key(session, name="viewer", roles=["viewer"], actor="test")
    await asyncio.sleep(1.2)
    client.headers["Authorization"] = f"Bearer {key}"
    assert (await client.get("/notifications/targets/pager")).status_code == 200
    for method, path in {
        ("POST", "/notifications/targets"),
        ("PATCH", "/notifications/targets/pager"),
        ("POST", "/notifications/targets/pager/test"),
        ("POST", "/notifications/targets/pager/rotate"),
        ("DELETE", "/notifications/targets/pager"),
        ("PUT", "/notifications/rules/x"),
        ("POST", "/notifications/deliveries/1/redeliver"),
    }:
        answer = await client.request(method, path, json=HOOK)
        assert answer.status_code == 403, f"{method} {path}: {answer.text}"
