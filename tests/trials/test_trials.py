"""Canary and shadow: who is answered by standby, who never notices, when it is over, and what the report says."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock, seconds
from app.events.tables import Event
from app.feedback.answers import id_prefix
from app.feedback.joining import join_pending
from app.feedback.outcomes import served_between
from app.feedback.tables import AnswerBlock, Feedback, MirroredAnswers
from app.main import create_app, lifespan
from app.records.tidy import tidy
from app.registry.promotion import promote
from app.runtimes.schema import Head
from app.serving import shadow
from app.serving.directions import position
from app.settings import Settings
from app.trials.service import end_due
from app.trials.tables import Trial
from tests.artifacts import SCHEMA
from tests.served import Make, activate, defined, flush, maker, predict, until_warm

ROWS = [[-2.0, 1.0], [-0.5, None], [0.5, 0.0], [3.0, 0.5]]
CANARY = {"share": 0.5, "minutes": 10, "reason": "of the test"}
SHADOW = {"minutes": 10, "reason": "of the test"}
Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def make(sessions: Sessions, config: Settings, tmp_path: Path) -> Make:
    await defined(sessions, "fraud")
    return maker(sessions, config, tmp_path)


@pytest.fixture
async def two(client: httpx.AsyncClient, make: Make) -> None:
    """Version 1, which says no, is active; version 2, which says yes, stands by."""
    await make(bias=-9.0)
    await activate(client)
    await make(bias=9.0, incumbent=1)
    await until_warm(client, 2)


async def start(api: FastAPI, client: httpx.AsyncClient, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"/model/{kind}", json=body)
    assert answer.status_code == 201, answer.text
    await api.state.directions.read()
    told: dict[str, Any] = answer.json()
    return told


async def ask(client: httpx.AsyncClient, key: str | None = None, **body: Any) -> dict[str, Any]:
    return await predict(client, [[0.0, 0.0]], headers={"X-Routing-Key": key} if key else {}, **body)


async def test_a_canary_answers_the_same_callers_each_time_and_names_itself(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY | {"share": 0.3})
    keys = [f"customer-{place}" for place in range(300)]
    first = [await ask(client, key) for key in keys]
    again = [await ask(client, key) for key in keys]
    assert [a["version"] for a in first] == [a["version"] for a in again]
    by_standby = [a for a in first if a["version"] == 2]
    assert all((a["slot"], a["labels"]) == ("standby", ["yes"]) for a in by_standby)
    # Within four standard errors of a binomial share.
    assert abs(len(by_standby) / 300 - 0.3) < 4 * (0.3 * 0.7 / 300) ** 0.5
    assert {(await ask(client))["version"] for _ in range(20)} == {1}
    assert (await ask(client, keys[0], slot="active"))["version"] == first[0]["version"]


def test_the_share_is_that_of_the_keys_and_another_trial_meets_others() -> None:
    places = np.array([position(b"one", f"key-{n}") for n in range(20_000)])
    others = np.array([position(b"two", f"key-{n}") for n in range(20_000)])
    for share in (0.01, 0.1, 0.5):
        assert abs((places < share).mean() - share) < 4 * (share * (1 - share) / 20_000) ** 0.5
    assert abs(np.corrcoef(places, others)[0, 1]) < 0.03


async def test_a_canary_is_over_the_moment_standby_or_active_is_another_version(
    api: FastAPI, client: httpx.AsyncClient, two: None, make: Make, sessions: Sessions
) -> None:
    await start(api, client, "canary", CANARY)
    key = await lucky(client)
    await make(bias=3.0, incumbent=1)
    assert (await client.post("/model/versions/fraud/3/stage", json={})).status_code == 200
    await until_warm(client, 3)
    assert (await ask(client, key))["version"] == 1
    ended = await until_ended(client)
    assert (ended["state"], ended["why"]) == ("ended", "version 2 no longer stands by")
    await start(api, client, "canary", CANARY)
    await activate(client)
    assert (await until_ended(client))["why"] == "version 1 is no longer active"
    async with sessions() as session:
        kinds = select(Event.kind).where(Event.kind.like("canary.%")).order_by(Event.id)
        assert (await session.scalars(kinds)).all() == ["canary.started", "canary.ended"] * 2


async def test_what_passes_the_gate_meanwhile_waits_for_the_end_of_a_trial(
    api: FastAPI, client: httpx.AsyncClient, two: None, make: Make, sessions: Sessions
) -> None:
    await start(api, client, "canary", CANARY)
    await make(bias=3.0, incumbent=1)
    async with sessions() as session, session.begin():
        told = (await session.scalars(select(Event).where(Event.kind == "slots.put_off"))).one()
    assert (told.after, told.version) == ("trial_running", 3)
    assert (await client.get("/model/slots?model=fraud")).json()["standby"] == 2
    await client.post("/model/canary/stop", json={"model": "fraud", "reason": "seen enough"})
    async with sessions() as session, session.begin():
        await promote(session, "fraud")
    await until_warm(client, 3)


async def test_a_canary_ends_when_its_time_is_over_also_where_postgres_is_away(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(api, client, "canary", CANARY)
    key = await lucky(client)

    async def away() -> None:
        raise OSError("Postgres is away")

    monkeypatch.setattr(api.state.directions, "read", away)
    later = time.monotonic() + 601
    monkeypatch.setattr("app.serving.directions.time.monotonic", lambda: later)
    assert (await ask(client, key))["version"] == 1


async def test_a_trial_ends_by_its_limits(
    api: FastAPI, client: httpx.AsyncClient, two: None, sessions: Sessions
) -> None:
    await start(api, client, "canary", CANARY | {"max_requests": 5})
    key = await lucky(client)
    told = [(await ask(client, key))["version"] for _ in range(10)]
    assert told.count(2) <= 5
    await flush(api)
    assert (await until_ended(client))["why"] == "standby has answered its 5 requests"
    await start(api, client, "shadow", SHADOW)
    async with sessions() as session, session.begin():
        await session.execute(update(Trial).where(Trial.state == "running").values(ends_at=clock()))
        assert await end_due(session) == 1
    assert (await until_ended(client))["why"] == "its time is over"


@pytest.mark.parametrize("kind", ["canary", "shadow"])
async def test_there_is_one_trial_at_a_time_and_people_can_stop_it(
    api: FastAPI, client: httpx.AsyncClient, two: None, kind: str
) -> None:
    body = CANARY if kind == "canary" else SHADOW
    await start(api, client, kind, body)
    refused = await client.post("/model/canary", json=CANARY)
    assert (refused.status_code, refused.json()["code"]) == (409, "trial_running")
    other = "shadow" if kind == "canary" else "canary"
    assert (await client.post(f"/model/{other}/stop", json={"reason": "x"})).json()["code"] == "no_trial"
    stopped = await client.post(f"/model/{kind}/stop", json={"reason": "enough"})
    assert (stopped.json()["state"], stopped.json()["why"]) == ("ended", "enough")
    assert (await client.post(f"/model/{kind}/stop", json={"reason": "x"})).json()["code"] == "no_trial"
    await api.state.directions.read()
    assert {(await ask(client, f"key-{n}"))["version"] for n in range(20)} == {1}


async def test_nothing_is_tried_without_a_standby_that_is_warm_everywhere(
    client: httpx.AsyncClient, make: Make, session: AsyncSession
) -> None:
    from tests.factories import replica

    assert (await client.post("/model/canary", json=CANARY)).json()["code"] == "no_active_version"
    await make(bias=-9.0)
    await activate(client)
    assert (await client.post("/model/canary", json=CANARY)).json()["code"] == "standby_empty"
    await make(bias=9.0, incumbent=1)
    await until_warm(client, 2)
    async with session.begin():
        await replica(session, "fraud", warm=None)
    assert (await client.post("/model/shadow", json=SHADOW)).json()["code"] == "replicas_not_ready"


async def test_a_held_model_gets_no_canary_and_a_hold_ends_one(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY)
    await client.post("/model/hold", json={"reason": "audit"})
    assert (await until_ended(client))["why"] == "the model is held: audit"
    assert (await client.post("/model/canary", json=CANARY)).json()["code"] == "held"
    await start(api, client, "shadow", SHADOW)


NO_TRIALS: list[dict[str, Any]] = [
    {"share": 0},
    {"share": 0.6},
    {"minutes": 0},
    {"reason": ""},
    {"max_requests": 0},
    {"share": "NaN"},
]


async def test_a_trial_that_cannot_be_is_refused(client: httpx.AsyncClient, two: None) -> None:
    for change in NO_TRIALS:
        assert (await client.post("/model/canary", json=CANARY | change)).status_code == 422, change


async def test_a_report_by_a_label_column_that_there_is_not_is_refused(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY)
    answer = await client.get("/model/trial?head=nope")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_head")


async def test_the_report_of_a_canary_has_both_arms_with_feedback_and_intervals(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "canary", CANARY)
    answers = [await ask(client, f"customer-{place}") for place in range(60)]
    await flush(api)
    items = [{"request_id": a["request_id"], "label": "yes"} for a in answers]
    items += [{"request_id": a["request_id"], "accepted": a["version"] == 2} for a in answers]
    told = await client.post("/feedback", json={"feedback": items})
    assert told.json()["joined"] == 120, told.text
    report = (await client.get("/model/trial")).json()
    old, new = report["active"], report["standby"]
    assert old["rows"] + new["rows"] == 60
    assert (old["version"], old["slot"], old["labels"]) == (1, "active", {"no": 1.0, "yes": 0.0})
    assert (new["version"], new["slot"], new["labels"]) == (2, "canary", {"no": 0.0, "yes": 1.0})
    assert (old["accuracy"]["value"], new["accuracy"]["value"], new["f1"]["value"]) == (0.0, 1.0, 1.0)
    assert new["accuracy"]["n"] == new["rows"]
    assert report["differences"]["accuracy"]["low"] > 0.5
    assert report["differences"]["acceptance"]["value"] == 1.0
    assert report["differences"]["f1"]["low"] == 1.0
    assert (old["error_rate"]["value"], report["compared"]) == (0.0, None)
    assert 0 < old["latency_p50"] <= old["latency_p99"] < 1


async def test_a_shadow_is_asked_the_same_and_nobody_sees_it(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "shadow", SHADOW)
    answers = [await predict(client, ROWS) for _ in range(10)]
    assert {(a["version"], a["slot"]) for a in answers} == {(1, "active")}
    report = await until_compared(api, client, 10)
    assert (report["standby"]["requests"], report["standby"]["slot"]) == (10, "shadow")
    assert report["standby"]["labels"] == {"no": 0.0, "yes": 1.0}
    compared = report["compared"]
    assert (compared["rows"], compared["agreement"]["value"], compared["dropped"]) == (40, 0.0, 0)
    assert compared["mean_score_difference"] > 0.9
    assert (report["active"]["requests"], report["trial"]["requests"]) == (10, 10)
    # What it said is nobody's answer.
    assert (await client.get("/model/trials")).json()["data"][0]["agreed"] == 0


async def test_labels_of_what_active_answered_tell_of_the_shadow_by_the_same_rows(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    before = [await predict(client, ROWS) for _ in range(3)]
    await start(api, client, "shadow", SHADOW)
    answers = [await predict(client, ROWS) for _ in range(10)]
    await until_compared(api, client, 10)
    await tell(client, [*before, *answers], "yes", "no", "yes", "yes")
    votes = [{"request_id": answer["request_id"], "accepted": False} for answer in [*before, *answers]]
    assert (await client.post("/feedback", json={"feedback": votes})).json()["joined"] == 13
    report = (await client.get("/model/trial")).json()
    old, new = report["active"], report["standby"]
    assert (old["accuracy"]["value"], old["accuracy"]["n"], old["f1"]["value"]) == (0.25, 40, 0.0)
    assert (new["accuracy"]["value"], new["accuracy"]["n"]) == (0.75, 40)
    assert new["f1"]["value"] == pytest.approx(2 * 3 / (3 + 4))
    assert new["accuracy"]["low"] < 0.75 < new["accuracy"]["high"]
    gaps = report["differences"]
    assert (gaps["accuracy"]["value"], gaps["f1"]["value"]) == (0.5, new["f1"]["value"])
    assert 0 < gaps["accuracy"]["low"] < 0.5 < gaps["accuracy"]["high"]
    # Who refused what active said has said nothing of the shadow.
    assert (old["acceptance"]["value"], old["acceptance"]["n"]) == (0.0, 10)
    assert (new["acceptance"]["n"], gaps["acceptance"]["value"]) == (0, None)


async def test_a_shadow_that_has_its_labels_in_another_order_is_judged_by_the_labels(
    api: FastAPI, client: httpx.AsyncClient, make: Make
) -> None:
    turned = SCHEMA.model_copy(update={"heads": (Head(name="y", labels=("yes", "no"), threshold=0.5),)})
    await make(bias=0.0)
    await activate(client)
    await make(bias=0.0, incumbent=1, schema=turned, profile=None)
    await until_warm(client, 2)
    await start(api, client, "shadow", SHADOW)
    answer = await predict(client, ROWS)
    assert answer["labels"] == ["no", "no", "yes", "yes"]
    assert (await predict(client, ROWS, slot="standby"))["labels"] == ["yes", "yes", "no", "no"]
    await until_compared(api, client, 1)
    await tell(client, [answer], "yes", "yes", "no", "yes")
    report = (await client.get("/model/trial")).json()
    assert [report[arm]["accuracy"]["value"] for arm in ("active", "standby")] == [0.25, 0.75]
    # Of "yes", which is active's second label, in both.
    assert [report[arm]["f1"]["value"] for arm in ("active", "standby")] == pytest.approx([2 / 5, 4 / 5])


async def test_rows_that_the_shadow_left_out_or_could_not_answer_are_in_neither_arm(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(api, client, "shadow", SHADOW)
    answers = [await predict(client, ROWS) for _ in range(5)]
    await until_compared(api, client, 5)
    with monkeypatch.context() as patch:
        patch.setattr(shadow, "MOST_REQUESTS", 0)
        answers += [await predict(client, ROWS) for _ in range(4)]
        await asyncio.sleep(0.05)
    standby = api.state.replica.slots["fraud"].standby

    def broken(_: Any) -> Any:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(standby.predictor, "predict", broken)
        answers += [await predict(client, ROWS) for _ in range(3)]
        await until_worked_off(api)
    answers += [await predict(client, ROWS) for _ in range(2)]
    report = await until_compared(api, client, 7)
    assert (report["compared"]["dropped"], report["standby"]["errors"]) == (4, 3)
    told = await tell(client, answers, "yes", "yes", "yes", "no")
    assert told["joined"] == 14 * 4
    report = (await client.get("/model/trial")).json()
    assert [report[arm]["accuracy"]["n"] for arm in ("active", "standby")] == [28, 28]
    assert [report[arm]["accuracy"]["value"] for arm in ("active", "standby")] == [0.25, 0.75]


async def test_labels_tell_of_a_shadow_whenever_they_come_and_what_they_said_last(
    api: FastAPI, client: httpx.AsyncClient, two: None, sessions: Sessions
) -> None:
    await start(api, client, "shadow", SHADOW)
    answers = [await predict(client, ROWS) for _ in range(4)]
    # Before the answers are written down, most likely.
    await tell(client, answers[:2], "yes", "yes", "yes", "yes")
    await until_compared(api, client, 4)
    async with sessions() as session, session.begin():
        await session.execute(update(Feedback).values(try_at=clock() - seconds(1)))
    async with sessions() as session, session.begin():
        await join_pending(session)
    stopped = await client.post("/model/shadow/stop", json={"reason": "enough"})
    assert stopped.status_code == 200
    await tell(client, answers[2:], "yes", "yes", "yes", "no")
    report = (await client.get("/model/trial")).json()
    assert (report["standby"]["accuracy"]["n"], report["standby"]["accuracy"]["value"]) == (16, 14 / 16)
    await tell(client, answers[:1], "no", "no", "no", "no")
    report = (await client.get("/model/trial")).json()
    assert (report["standby"]["accuracy"]["n"], report["standby"]["accuracy"]["value"]) == (16, 10 / 16)
    assert report["active"]["accuracy"]["value"] == 6 / 16


async def test_of_two_shadows_of_the_same_versions_each_has_its_own_rows(
    api: FastAPI, client: httpx.AsyncClient, two: None
) -> None:
    await start(api, client, "shadow", SHADOW)
    first = [await predict(client, ROWS) for _ in range(3)]
    await until_worked_off(api)
    await client.post("/model/shadow/stop", json={"reason": "again"})
    await start(api, client, "shadow", SHADOW)
    second = [await predict(client, ROWS) for _ in range(2)]
    await until_compared(api, client, 2)
    await tell(client, first + second, "yes", "yes", "yes", "yes")
    report = (await client.get("/model/trial")).json()
    assert report["standby"]["accuracy"]["n"] == 8


async def test_what_a_shadow_said_is_nobodys_answer_and_goes_when_answers_go(
    api: FastAPI, client: httpx.AsyncClient, two: None, sessions: Sessions, config: Settings
) -> None:
    await start(api, client, "shadow", SHADOW)
    answers = [await predict(client, ROWS) for _ in range(3)]
    await until_compared(api, client, 3)
    async with sessions() as session:
        block = (await session.scalars(select(AnswerBlock).where(AnswerBlock.slot == "shadow"))).first()
        assert block is not None
        now = await session.scalar(select(clock()))
        assert now is not None
        served = await served_between(session, "fraud", now - timedelta(seconds=60), now)
    assert served.rows == {(1, "active"): 12}
    its_own = f"{id_prefix(block.block)}{0:08x}{block.checksum:08x}"
    told = await tell(client, [{"request_id": its_own}], "yes")
    assert (told["joined"], told["pending"]) == (0, 1)
    async with sessions() as session, session.begin():
        await session.execute(update(Feedback).values(try_at=clock() - seconds(1)))
    async with sessions() as session, session.begin():
        assert await join_pending(session) == 0
    await tell(client, answers, "yes", "yes", "yes", "yes")
    async with sessions() as session, session.begin():
        await session.execute(update(AnswerBlock).values(at=AnswerBlock.at - seconds(31 * 86_400)))
        await tidy(session, config)
        assert (await session.scalars(select(MirroredAnswers))).all() == []
        assert (await session.scalars(select(AnswerBlock))).all() == []
    report = (await client.get("/model/trial")).json()
    assert (report["standby"]["accuracy"]["n"], report["compared"]["rows"]) == (0, 12)


async def test_where_answers_are_not_kept_a_shadows_are_not_either(
    config: Settings, admin_key: str, make: Make, sessions: Sessions
) -> None:
    app = create_app(config.model_copy(update={"counting": "off"}))
    headers = {"Authorization": f"Bearer {admin_key}"}
    async with (
        lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://refit", headers=headers) as client,
    ):
        await make(bias=-9.0)
        await activate(client)
        await make(bias=9.0, incumbent=1)
        await until_warm(client, 2)
        await start(app, client, "shadow", SHADOW)
        await predict(client, ROWS)
        report = await until_compared(app, client, 1)
    assert (report["compared"]["rows"], report["standby"]["accuracy"]["n"]) == (4, 0)
    async with sessions() as session:
        assert (await session.scalars(select(AnswerBlock))).all() == []
        assert (await session.scalars(select(MirroredAnswers))).all() == []


async def test_a_shadow_that_hangs_delays_no_answer_and_what_it_cannot_do_is_dropped_and_counted(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MOST_REQUESTS", 3)
    await start(api, client, "shadow", SHADOW)
    standby = api.state.replica.slots["fraud"].standby
    slow = standby.predictor.predict

    def hang(batch: Any) -> Any:
        time.sleep(0.5)
        return slow(batch)

    monkeypatch.setattr(standby.predictor, "predict", hang)
    began = time.perf_counter()
    for _ in range(20):
        assert (await predict(client, ROWS))["version"] == 1
    assert time.perf_counter() - began < 0.5
    await asyncio.sleep(0.05)
    assert len(api.state.shadow._queue) <= 3
    await flush(api)
    assert (await client.get("/model/trial")).json()["compared"]["dropped"] >= 16


async def test_a_shadow_that_fails_is_counted_and_never_answered(
    api: FastAPI, client: httpx.AsyncClient, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(api, client, "shadow", SHADOW)
    standby = api.state.replica.slots["fraud"].standby

    def broken(_: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(standby.predictor, "predict", broken)
    for _ in range(3):
        assert (await predict(client, ROWS))["version"] == 1
    await until_worked_off(api)
    await flush(api)
    report = (await client.get("/model/trial")).json()
    assert (report["standby"]["errors"], report["standby"]["error_rate"]["value"]) == (3, 1.0)


async def lucky(client: httpx.AsyncClient) -> str:
    """A caller whom standby answers."""
    for place in range(200):
        if (await ask(client, f"key-{place}"))["version"] == 2:
            return f"key-{place}"
    raise AssertionError("the canary answers nobody")


async def until_ended(client: httpx.AsyncClient) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            trial: dict[str, Any] = (await client.get("/model/trial")).json()["trial"]
            if trial["state"] == "ended":
                return trial
            await asyncio.sleep(0.05)


async def until_worked_off(api: FastAPI) -> None:
    async with asyncio.timeout(5):
        while api.state.shadow._queue:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


async def until_compared(api: FastAPI, client: httpx.AsyncClient, requests: int) -> dict[str, Any]:
    """The report, once the shadow has answered so many."""
    async with asyncio.timeout(10):
        while True:
            await flush(api)
            if (await client.get("/model/trial")).json()["trial"]["requests"] >= requests:
                break
            await asyncio.sleep(0.02)
    # The last may have been answered while its block was being counted.
    await flush(api)
    report: dict[str, Any] = (await client.get("/model/trial")).json()
    return report


async def tell(client: httpx.AsyncClient, answers: list[dict[str, Any]], *truths: str) -> dict[str, Any]:
    """Labels of the rows of each answer."""
    items = [
        {"request_id": answer["request_id"], "row": row, "label": truth}
        for answer in answers
        for row, truth in enumerate(truths)
    ]
    answer = await client.post("/feedback", json={"feedback": items})
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told
