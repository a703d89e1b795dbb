"""Incidents: one a cause, with its evidence, until somebody closes it."""

import asyncio

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import Refused
from app.events.tables import Event
from app.incidents import links
from app.incidents.service import acknowledge_incident, close_incident, list_incidents, open_incident
from app.incidents.tables import Incident
from app.settings import Settings
from app.training import state
from tests.factories import candidate, claim, define, trigger

ERROR = {"code": "not_converged", "message": "No.", "remedy": "None."}


async def fail(session: AsyncSession, settings: Settings, times: int = 1) -> None:
    for _ in range(times):
        await trigger(session, settings, "fraud")
        assert await state.fail(session, await claim(session), ERROR)


async def all_of(session: AsyncSession) -> list[Incident]:
    return list((await session.scalars(select(Incident).order_by(Incident.id))).all())


async def test_three_failures_in_a_row_open_one_incident_with_the_jobs_as_evidence(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await fail(session, config, 2)
    assert await all_of(session) == []
    await fail(session, config)
    [incident] = await all_of(session)
    assert (incident.severity, incident.model, incident.occurrences) == ("P2", "fraud", 1)
    assert [link["href"] for link in incident.links] == [f"/training/jobs/{n}" for n in (3, 2, 1)]


async def test_the_fourth_failure_is_counted_by_the_incident_that_is_open(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await fail(session, config, 4)
    [incident] = await all_of(session)
    assert incident.occurrences == 2
    await close_incident(session, incident.id, actor="test", note="mended")
    await fail(session, config)
    assert len(await all_of(session)) == 2


async def test_a_success_in_between_and_a_cancel_change_what_is_in_a_row(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    await fail(session, config, 2)
    await trigger(session, config, "fraud")
    await state.complete(session, await claim(session), candidate())
    await fail(session, config, 2)
    assert await all_of(session) == []
    job = await trigger(session, config, "fraud")
    await state.request_cancel(session, job.id, actor="test", reason=None)
    await fail(session, config)
    assert len(await all_of(session)) == 1


async def test_the_same_cause_at_once_opens_one_incident(sessions: async_sessionmaker[AsyncSession]) -> None:
    async def once(turn: int) -> None:
        async with sessions() as session, session.begin():
            await open_incident(
                session,
                severity="P1" if turn == 3 else "P2",
                title="rolled back",
                actor="refit",
                dedupe="rollback:fraud",
                evidence={f"turn {turn}": turn},
                links=[links.to_job(turn)],
            )

    await asyncio.gather(*(once(turn) for turn in range(1, 6)))
    async with sessions() as session:
        [incident] = await all_of(session)
        told = (await session.execute(select(Event.kind, func.count()).group_by(Event.kind))).all()
    assert (incident.occurrences, incident.severity) == (5, "P1")
    assert incident.evidence == {f"turn {turn}": turn for turn in range(1, 6)}
    assert {link["id"] for link in incident.links} == {1, 2, 3, 4, 5}
    assert {tuple(row) for row in told} == {("incident.opened", 1), ("incident.repeated", 4)}


async def test_a_cause_that_comes_up_for_ever_does_not_grow_for_ever(session: AsyncSession) -> None:
    for turn in range(60):
        incident = await open_incident(
            session, severity="P3", title="x", actor="refit", dedupe="x", links=[links.to_job(turn)]
        )
    assert (incident.occurrences, len(incident.links)) == (60, 50)


async def test_one_person_takes_an_incident_over(session: AsyncSession) -> None:
    incident = await open_incident(session, severity="P2", title="late", actor="refit")
    taken = await acknowledge_incident(session, incident.id, actor="alice", note="I look")
    assert (taken.acknowledged_by, taken.acknowledgement) == ("alice", "I look")
    with pytest.raises(Refused) as refused:
        await acknowledge_incident(session, incident.id, actor="bob", note=None)
    assert (refused.value.code, "alice" in refused.value.message) == ("incident_acknowledged", True)
    await close_incident(session, incident.id, actor="bob", note="done")
    with pytest.raises(Refused) as refused:
        await acknowledge_incident(session, incident.id, actor="bob", note=None)
    assert refused.value.code == "incident_closed"


async def test_lists_are_by_state_and_severity_in_pages(client: httpx.AsyncClient, session: AsyncSession) -> None:
    async with session.begin():
        for severity in ("P1", "P2", "P2", "P3"):
            await open_incident(session, severity=severity, title="x", actor="refit")
    assert (await client.post("/incidents/1/acknowledge", json={"note": "mine"})).status_code == 200
    assert (await client.post("/incidents/2/close", json={"note": "over"})).status_code == 200

    async def ids(**asked: str | int) -> list[int]:
        return [row["id"] for row in (await client.get("/incidents", params=asked)).json()["data"]]

    assert await ids() == [4, 3, 1]
    assert await ids(state="unacknowledged") == [4, 3]
    assert await ids(state="acknowledged") == [1]
    assert await ids(state="closed") == [2]
    assert await ids(state="all", severity="P2") == [3, 2]
    page = (await client.get("/incidents", params={"state": "all", "limit": 3})).json()
    assert (page["has_more"], page["next"]) == (True, "2")
    assert await ids(state="all", limit=3, after=2) == [1]


async def test_an_incident_can_be_opened_by_hand_and_read(client: httpx.AsyncClient) -> None:
    opened = await client.post("/incidents", json={"severity": "P4", "title": "labels are late"})
    shown = (await client.get(f"/incidents/{opened.json()['id']}")).json()
    assert (opened.status_code, shown["title"], shown["links"], shown["occurrences"]) == (201, "labels are late", [], 1)
    assert (await client.get("/incidents/99")).json()["code"] == "incident_not_found"


async def test_what_is_open_is_listed_of_one_model(session: AsyncSession) -> None:
    await open_incident(session, severity="P2", title="x", actor="refit", model="fraud")
    await open_incident(session, severity="P2", title="y", actor="refit", model="spam")
    assert [i.title for i in await list_incidents(session, model="spam")] == ["y"]
