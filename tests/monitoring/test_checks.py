"""From recorded numbers to a state, an event and one job."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock
from app.definitions.service import load
from app.events.tables import Event
from app.feedback.tables import LearningStats, MetricPoint
from app.monitoring import checks
from app.monitoring.checks import Checked
from app.monitoring.reference import profile_of
from app.monitoring.tables import Monitor, MonitorCheck, MonitorRound
from app.registry import artifacts, swap
from app.registry.swap import Change
from app.settings import Settings
from app.training.tables import TrainingJob
from tests import factories
from tests.monitoring.observed import PROFILE, answer_back, gated, serve

MODEL = "fraud"
TRIGGERS = {"cooldown_minutes": 0, "weekly_budget": 100}
Sessions = async_sessionmaker[AsyncSession]


async def begin(sessions: Sessions, config: Settings, **changes: Any) -> None:
    """Version 1, of F1 .9 and with a profile, is active."""
    profile_of.cache_clear()
    folder = artifacts.folder_of(config.store, "a" * 64)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_bytes(orjson.dumps(PROFILE))
    async with sessions() as session, session.begin():
        await factories.define(session, MODEL, triggers=TRIGGERS, **changes)
        number = await factories.version(session, config, MODEL, artifact="a" * 64)
        await gated(session, MODEL, number, f1=0.9)
        await swap.stage(session, Change(MODEL, "test"), number)
        await swap.reload(session, Change(MODEL, "test"), watch_minutes=0)


async def check(sessions: Sessions, config: Settings, **how: Any) -> tuple[dict[str, Checked], Sequence[TrainingJob]]:
    async with sessions() as session, session.begin():
        found, jobs = await checks.check(session, config, await load(session, MODEL), **how)
    return {each.name: each for each in found}, jobs


async def events(sessions: Sessions) -> list[tuple[str, str | None]]:
    async with sessions() as session:
        query = select(Event.kind, Event.before).where(Event.kind.startswith("monitor.")).order_by(Event.id)
        return [(kind, before) for kind, before in await session.execute(query)]


async def low_acceptance(sessions: Sessions, rate: float = 0.4, cycles: int = 3) -> None:
    async with sessions() as session, session.begin():
        session.add_all(LearningStats(model=MODEL, accept_rate=rate, metrics={}, sender="test") for _ in range(cycles))


DRIFTED = [10, 10, 10, 970, 0]
STEADY = [250, 250, 250, 250, 0]


async def test_low_acceptance_makes_a_job_that_says_why_on_which_numbers(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    found, [job] = await check(sessions, config)
    assert (found["acceptance"].finding.state, found["acceptance"].outcome) == ("breached", "accepted")
    assert (job.trigger, job.priority) == ("monitor", 1)
    assert job.reason == "acceptance: 40.0% of the answers were accepted over the last 3 cycles, fewer than 60%."
    assert job.because is not None
    assert job.because["acceptance"]["numbers"]["rates"] == [0.4] * 3


async def test_several_monitors_at_once_make_one_job_of_high_priority(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config, monitors={"drift": {"windows": 1}})
    await low_acceptance(sessions)
    async with sessions() as session, session.begin():
        await answer_back(session, MODEL, 1, {(1, 1): 400, (0, 0): 400, (1, 0): 100, (0, 1): 100})
        await serve(session, MODEL, 1, requests=10, column=DRIFTED)
    found, [job] = await check(sessions, config)
    assert {name for name, each in found.items() if each.finding.state == "breached"} == {"f1", "drift", "acceptance"}
    assert (job.because or {}).keys() == {"f1", "drift", "acceptance"}
    assert job.priority == 0


async def test_a_second_check_finds_the_job_that_is_open(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    _, [first] = await check(sessions, config)
    found, [again] = await check(sessions, config)
    assert (found["acceptance"].outcome, again.id) == ("coalesced", first.id)


async def test_a_refusal_is_the_outcome_and_makes_no_job(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    async with sessions() as session, session.begin():
        await factories.define(session, MODEL, triggers=TRIGGERS, prerequisites={"min_new_samples": 10})
    found, jobs = await check(sessions, config)
    assert (found["acceptance"].outcome, jobs) == ("insufficient_new_samples", [])


async def test_a_look_triggers_nothing(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    found, jobs = await check(sessions, config, trigger=False)
    assert (found["acceptance"].finding.state, jobs) == ("breached", [])


async def test_each_look_is_a_row_and_each_change_an_event(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config)
    await check(sessions, config)
    await low_acceptance(sessions, rate=0.9)
    await check(sessions, config)
    await low_acceptance(sessions, rate=0.1, cycles=5)
    await check(sessions, config)
    await check(sessions, config)
    async with sessions() as session:
        query = select(MonitorCheck.state).where(MonitorCheck.name == "acceptance").order_by(MonitorCheck.id)
        states = (await session.scalars(query)).all()
    assert list(states) == ["unknown", "ok", "breached", "breached"]
    assert await events(sessions) == [("monitor.recovered", "unknown"), ("monitor.breached", "ok")]


async def test_what_falls_silent_is_told_at_once_and_once_more_when_it_lasts(
    sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config, monitors={"drift": {"windows": 1}, "f1": None, "acceptance": None})
    async with sessions() as session, session.begin():
        await serve(session, MODEL, 1, requests=10, column=STEADY)
    found, _ = await check(sessions, config)
    assert found["drift"].finding.state == "ok"
    async with sessions() as session, session.begin():
        await session.execute(update(Monitor).values(since=clock()))
        await session.execute(text("DELETE FROM traffic"))
    for _ in range(2):
        await check(sessions, config)
    assert await events(sessions) == [("monitor.silent", "ok")]
    async with sessions() as session, session.begin():
        await session.execute(
            update(Monitor).values(since=clock() - timedelta(days=1), checked_at=clock() - timedelta(hours=2))
        )
    for _ in range(2):
        await check(sessions, config)
    assert await events(sessions) == [("monitor.silent", "ok"), ("monitor.silent", "unknown")]


async def test_drift_knows_where_there_is_none(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config, monitors={"drift": {"windows": 1}})
    async with sessions() as session, session.begin():
        await serve(session, MODEL, 1, requests=10, column=STEADY)
    found, jobs = await check(sessions, config)
    assert (found["drift"].finding.state, jobs) == ("ok", [])
    assert found["drift"].numbers["windows"][0]["columns"]["x"]["psi"] == 0


async def test_only_what_is_due_is_looked_at_and_a_new_definition_is_due_at_once(
    sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config)
    async with sessions() as session, session.begin():
        await checks.check_due(session, config)
        await checks.check_due(session, config)
        assert len((await session.scalars(select(MonitorCheck))).all()) == 3
        await factories.define(
            session, MODEL, triggers=TRIGGERS, monitors={"bleu": {"kind": "metric", "metric": "bleu", "min": 0.3}}
        )
        await checks.check_due(session, config)
        rows = (await session.scalars(select(MonitorCheck.name).order_by(MonitorCheck.id))).all()
        assert list(rows)[3:] == ["bleu"]
        due = (await session.scalars(select(MonitorRound.due_at))).one()
        assert due == min((await session.scalars(select(Monitor.due_at))).all())


async def test_who_asks_for_more_looks_does_not_wait_for_the_one_that_was_due_before(
    sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config)
    await check(sessions, config)
    async with sessions() as session, session.begin():
        await session.execute(update(Monitor).values(checked_at=clock() - timedelta(seconds=30)))
        often = {"acceptance": {"kind": "acceptance", "every_minutes": 1}}
        await factories.define(session, MODEL, triggers=TRIGGERS, monitors=often)
        await checks.check_due(session, config)
        assert len((await session.scalars(select(MonitorCheck))).all()) == 3
        due = await session.scalar(select(MonitorRound.due_at - clock()))
        assert due is not None
        assert timedelta(seconds=25) < due < timedelta(seconds=31)
        shown = select(Monitor.due_at).where(Monitor.name == "acceptance")
        assert await session.scalar(shown) == await session.scalar(select(MonitorRound.due_at))
        await session.execute(update(Monitor).values(checked_at=clock() - timedelta(seconds=61)))
        await session.execute(update(MonitorRound).values(due_at=clock()))
        await checks.check_due(session, config)
        names = (await session.scalars(select(MonitorCheck.name).order_by(MonitorCheck.id))).all()
        assert list(names)[3:] == ["acceptance"]


async def test_a_model_whose_monitors_stumble_leaves_the_others_theirs(
    sessions: Sessions, config: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    async with sessions() as session, session.begin():
        await factories.define(session, "broken")
        await session.execute(text("UPDATE model_definitions SET definition = '{}' WHERE model = 'broken'"))
        jobs = await checks.check_due(session, config)
    assert [job.model for job in jobs] == [MODEL]
    assert "the monitors of broken stumbled" in caplog.text


async def test_a_monitor_that_stumbles_is_unknown_and_leaves_the_others_of_its_model_theirs(
    sessions: Sessions, config: Settings
) -> None:
    bleu = {"kind": "metric", "metric": "bleu", "min": 0.3}
    await begin(sessions, config, monitors={"bleu": bleu})
    await low_acceptance(sessions)
    async with sessions() as session, session.begin():
        for source in "ab":  # no caller can send such values; their mean is no number
            point = {"model": MODEL, "name": "bleu", "value": 1.7e308, "source": source, "sender": "t"}
            session.add(MetricPoint(**point, at=clock()))
    found, jobs = await check(sessions, config)
    assert (found["bleu"].finding.state, found["acceptance"].finding.state) == ("unknown", "breached")
    assert "It could not be checked: ValueError" in found["bleu"].finding.reason
    assert len(jobs) == 1


async def test_who_only_looks_neither_postpones_the_next_check_nor_takes_back_what_came_of_the_last(
    sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    await check(sessions, config)

    async def kept() -> Monitor:
        async with sessions() as session:
            return (await session.scalars(select(Monitor).where(Monitor.name == "acceptance"))).one()

    before = await kept()
    found, _ = await check(sessions, config, trigger=False)
    after = await kept()
    assert found["acceptance"].finding.state == "breached"
    assert (after.due_at, after.outcome, after.job_id) == (before.due_at, "accepted", before.job_id)


async def test_who_checks_at_once_tells_a_change_once(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config)
    await low_acceptance(sessions)
    await asyncio.gather(*(check(sessions, config) for _ in range(5)))
    assert [kind for kind, _ in await events(sessions)].count("monitor.breached") == 1


async def test_values_weigh_as_much_as_they_are_the_mean_of(sessions: Sessions, config: Settings) -> None:
    await begin(sessions, config, monitors={"bleu": {"kind": "metric", "metric": "bleu", "min": 0.3}})
    async with sessions() as session, session.begin():
        for value, n in ((0.9, 1), (0.1, 3)):
            point = {"model": MODEL, "name": "bleu", "value": value, "n": n, "source": str(n), "sender": "t"}
            session.add(MetricPoint(**point, at=clock()))
    found, _ = await check(sessions, config)
    assert found["bleu"].numbers["average"] == pytest.approx(0.3)


async def test_a_monitor_that_the_definition_drops_is_forgotten_but_not_what_it_found(
    sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config)
    await check(sessions, config)
    async with sessions() as session, session.begin():
        await factories.define(session, MODEL, triggers=TRIGGERS, monitors={"acceptance": None})
    await check(sessions, config)
    async with sessions() as session:
        assert set((await session.scalars(select(Monitor.name))).all()) == {"f1", "drift"}
        assert "acceptance" in (await session.scalars(select(MonitorCheck.name))).all()


async def test_a_declared_metric_is_weighed_by_its_age(sessions: Sessions, config: Settings) -> None:
    bleu = {"kind": "metric", "metric": "bleu", "min": 0.3, "average": "time_weighted", "half_life_minutes": 60}
    await begin(sessions, config, monitors={"bleu": bleu})
    async with sessions() as session, session.begin():
        now = (await session.scalars(select(clock()))).one()
        for hours, value in ((0, 0.2), (1, 0.5)):
            at = now - timedelta(hours=hours)
            session.add(MetricPoint(model=MODEL, version=1, name="bleu", value=value, source="s", sender="t", at=at))
    found, _ = await check(sessions, config)
    assert found["bleu"].numbers["average"] == pytest.approx((0.2 + 0.5 / 2) / 1.5)
    assert found["bleu"].finding.state == "ok"


async def test_over_http_a_check_says_what_it_found_and_what_followed(
    client: httpx.AsyncClient, sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config)
    for rate in (0.5, 0.4, 0.3):
        posted = await client.post("/metrics/learning", json={"model": MODEL, "accept_rate": rate})
        assert posted.status_code == 202
    answer = (await client.post("/monitoring/check", json={"model": MODEL})).json()
    found = {each["monitor"]: each for each in answer["checks"]}
    assert (found["acceptance"]["state"], found["acceptance"]["outcome"]) == ("breached", "accepted")
    assert answer["jobs"] == [found["acceptance"]["job_id"]]
    job = (await client.get(f"/training/jobs/{answer['jobs'][0]}")).json()
    assert (job["trigger"], job["because"]["acceptance"]["numbers"]["mean"]) == ("monitor", pytest.approx(0.4))
    listed = (await client.get("/monitoring/monitors", params={"model": MODEL})).json()
    assert {each["name"] for each in listed} == {"f1", "drift", "acceptance"}
    page = (await client.get("/monitoring/checks", params={"model": MODEL, "monitor": "acceptance", "limit": 1})).json()
    assert page["data"][0]["state"] == "breached"
    told = (await client.get("/events", params={"kind": "monitor.breached"})).json()["data"][0]
    assert told["evidence"]["monitor"] == "acceptance"


async def test_a_monitor_that_never_was_is_not_one_that_found_nothing(
    client: httpx.AsyncClient, sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config)
    await check(sessions, config)
    path = "/monitoring/checks"
    unknown = await client.get(path, params={"model": MODEL, "monitor": "nope"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "monitor_not_found")
    assert "acceptance" in unknown.json()["remedy"]
    async with sessions() as session, session.begin():
        await factories.define(session, MODEL, triggers=TRIGGERS, monitors={"newer": {"kind": "acceptance"}})
    newer = await client.get(path, params={"model": MODEL, "monitor": "newer"})
    assert (newer.status_code, newer.json()["data"]) == (200, [])
    former = await client.get(path, params={"model": MODEL, "monitor": "acceptance"})
    assert len(former.json()["data"]) == 1
    assert (await client.get(path, params={"model": MODEL, "monitor": "acceptance", "after": 1})).status_code == 200


async def test_of_an_unknown_model_nothing_is_checked(client: httpx.AsyncClient) -> None:
    assert (await client.post("/monitoring/check", json={"model": "nobody"})).status_code == 404
    assert (await client.post("/monitoring/check", json={"modle": "x"})).status_code == 422
    assert (await client.get("/monitoring/watches/7")).json()["code"] == "watch_not_found"


async def test_a_version_that_has_just_become_active_has_not_fallen_silent(
    sessions: Sessions, config: Settings
) -> None:
    await begin(sessions, config, monitors={"drift": {"windows": 1}, "f1": None, "acceptance": None})
    async with sessions() as session, session.begin():
        await serve(session, MODEL, 1, requests=10, column=STEADY)
    await check(sessions, config)
    async with sessions() as session, session.begin():
        number = await factories.version(session, config, MODEL, incumbent=1)
        await swap.stage(session, Change(MODEL, "test"), number)
        await swap.reload(session, Change(MODEL, "test"), watch_minutes=0)
    found, _ = await check(sessions, config)
    assert found["drift"].finding.state == "unknown"
    assert await events(sessions) == []
