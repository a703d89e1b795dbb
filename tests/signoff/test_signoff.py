"""People read answers without knowing whose they are, and nothing but a rollback becomes active without their word."""

import copy
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.service import create_key
from app.definitions.schemas import Signoff
from app.definitions.service import apply
from app.errors import Refused
from app.evaluation.kept import keep
from app.evaluation.schemas import Answered, Evaluation, Row
from app.events.tables import Event
from app.gate.report import GateReport
from app.registry import promotion, swap
from app.registry.swap import Change, ReplicasNotReady
from app.registry.tables import ModelVersion
from app.settings import Settings
from app.signoff.sheet import items_of
from app.training import state
from app.training.tables import TrainingJob
from app.trials import service as trials
from app.trials.schemas import StartCanary, StartShadow
from tests.factories import candidate, claim, define, definition, replica, slots, trigger, version

Maker = async_sessionmaker[AsyncSession]
RISKS = (1.0, math.nan, 5.0, 2.0, math.nan, 9.0)
SIGNED = {"signoff": {"count": 1, "role": "operator", "prompts": 4, "risk": "risk"}}
GATE = GateReport(
    verdict="pass",
    mode="point",
    incumbent=1,
    data_version="d" * 64,
    rows=6,
    rows_per_class={},
    criteria=[],
    reason="ok",
)


def answered(words: str) -> Answered:
    return Answered(text=words, finish_reason="stop", seconds=0.1, scores={})


def evaluation(*, incumbent: int | None = 1, notes: list[str] | None = None) -> Evaluation:
    risks = ["low", "high", None, "critical", "low", "low"]
    rows = [
        Row(
            prompt=f"{place:016x}",
            messages=[{"role": "user", "content": f"Question {place} <b>?"}],
            reference="It is so.",
            candidate=answered(f"new {place}\n# not a heading"),
            incumbent=answered(f"old {place}") if incumbent else None,
            beside={"risk": risk} if risk else {},
        )
        for place, risk in enumerate(risks)
    ]
    told: dict[str, Any] = {"model": "fraud", "artifact": "a" * 64, "data_version": "d" * 64, "incumbent": incumbent}
    corpus = {"bleu": {"candidate": 0.4, "incumbent": 0.3}}
    return Evaluation(rows=rows, corpus=corpus, gate=GATE, notes=notes or [], **told)


async def read(session: AsyncSession, settings: Settings, *, digest: str, actor: str | None = None) -> int:
    """A version that stands by and has that evaluation."""
    await trigger(session, settings, "fraud")
    held = await claim(session)
    if actor is not None:
        await session.execute(
            text("UPDATE training_jobs SET actor = :actor WHERE id = :id"), {"actor": actor, "id": held.job_id}
        )
    active = (await slots(session, "fraud")).active
    number = await state.complete(session, held, candidate(incumbent=active) | {"details": {"evaluation": digest}})
    assert number is not None
    await swap.stage(session, Change("fraud", "test"), number)
    return number


@pytest.fixture
async def waiting(sessions: Maker, config: Settings, store: Path) -> str:
    """Version 1 is active, version 2 stands by and waits for a sign-off; the digest of its evaluation."""
    digest = keep(store, evaluation())
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await version(session, config, "fraud")
        await swap.stage(session, Change("fraud", "test"), 1)
        await swap.reload(session, Change("fraud", "test"), watch_minutes=0)
        await apply(session, "fraud", definition(**SIGNED), actor="test")
        await read(session, config, digest=digest)
    return digest


@pytest.fixture
async def people(api: FastAPI, sessions: Maker) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Callers by their name; each is an operator but the viewer."""
    found = {}
    for name in ("carol", "dave", "viewer"):
        async with sessions() as session, session.begin():
            key = await create_key(session, name=name, roles=["viewer" if name == "viewer" else "operator"], actor="t")
        headers = {"Authorization": f"Bearer {key}"}
        found[name] = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://refit", headers=headers)
    yield found
    for client in found.values():
        await client.aclose()


PATH = "/model/versions/fraud/2"


async def say(who: httpx.AsyncClient, digest: str, verdict: str = "approve", **more: Any) -> httpx.Response:
    return await who.post(f"{PATH}/signoff", json={"verdict": verdict, "evaluation": digest} | more)


async def reloaded(sessions: Maker, **how: Any) -> str:
    """What a reload is answered; that the replica of the test has no such file to load comes after the sign-off."""
    try:
        async with sessions() as session, session.begin():
            await swap.reload(session, Change("fraud", "test", "now", **how), watch_minutes=0)
    except ReplicasNotReady:
        return "reloaded"
    except Refused as refusal:
        return refusal.code
    return "reloaded"


def test_a_risk_that_is_no_number_comes_last() -> None:
    rows = [
        row.model_copy(update={"beside": {"risk": risk}}) for row, risk in zip(evaluation().rows, RISKS, strict=True)
    ]
    items = items_of(evaluation().model_copy(update={"rows": rows}), "a" * 64, Signoff(prompts=3, risk="risk"))
    assert [item.risk for item in items] == [9.0, 5.0, 2.0]


def test_the_sheet_is_the_same_for_everybody_blind_and_the_riskiest_first() -> None:
    asked = Signoff(prompts=6, risk="risk")
    items = items_of(evaluation(), "a" * 64, asked)
    assert [item.risk for item in items] == ["critical", "high", "low", "low", "low", None]
    assert items == items_of(copy.deepcopy(evaluation()), "a" * 64, asked)
    assert items_of(evaluation(), "b" * 64, asked) != items
    assert all({answer[:3] for answer in item.answers.values()} == {"new", "old"} for item in items)


@pytest.mark.parametrize("prompts", [1, 5, 6])
def test_on_half_of_a_sheet_the_candidate_is_a_and_only_the_salt_tells_on_which(prompts: int) -> None:
    def sides(salt: str) -> list[bool]:
        salted = evaluation().model_copy(update={"salt": salt})
        items = items_of(salted, "a" * 64, Signoff(prompts=prompts, risk="risk"))
        return [item.answers["A"].startswith("new") for item in items]

    drawn = [sides(str(salt)) for salt in range(200)]
    assert {sum(each) for each in drawn} <= {prompts // 2, (prompts + 1) // 2}
    assert all(70 < sum(of_place) < 130 for of_place in zip(*drawn, strict=True))


async def test_the_sheet_over_http_tells_no_side_and_nothing_in_it_is_markup(
    people: dict[str, httpx.AsyncClient], waiting: str
) -> None:
    sheet = (await people["viewer"].get(f"{PATH}/evaluation-sheet")).json()
    assert (sheet["evaluation"], len(sheet["prompts"])) == (waiting, 4)
    assert set(sheet["prompts"][0]) == {"prompt", "messages", "reference", "risk", "answers"}
    shown = (await people["viewer"].get(f"{PATH}/evaluation-sheet", headers={"Accept": "text/markdown"})).text
    assert "candidate or" not in shown
    assert "\\<b\\>" in shown
    assert "> \\# not a heading" in shown


async def test_without_a_sign_off_reload_and_canary_are_refused_by_name_and_force_helps_nothing(
    sessions: Maker, waiting: str
) -> None:
    assert await reloaded(sessions) == "signoff_missing"
    assert await reloaded(sessions, force=True) == "signoff_missing"
    async with sessions() as session, session.begin():
        await replica(session, "fraud", warm=2, served=1)
        canary = StartCanary(share=0.1, reason="try it")
        with pytest.raises(Refused, match="waits for its sign-off"):
            await trials.start(session, "fraud", canary, actor="test")
        shadow = await trials.start(session, "fraud", StartShadow(reason="nobody sees it"), actor="test")
        assert shadow.standby == 2


async def test_an_approval_lets_it_be_reloaded_and_preferences_are_kept_as_what_they_mean(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    sheet = (await people["carol"].get(f"{PATH}/evaluation-sheet")).json()
    chosen = {item["prompt"]: "A" if item["answers"]["A"].startswith("new") else "B" for item in sheet["prompts"][:3]}
    answer = await say(people["carol"], waiting, preferences=chosen, notes="kinder")
    assert (answer.status_code, answer.json()["state"], answer.json()["missing"]) == (201, "approved", [])
    [word] = answer.json()["signoffs"]
    assert list(word["preferences"].values()) == ["candidate"] * 3
    assert await reloaded(sessions) == "reloaded"
    async with sessions() as session:
        [event] = await session.scalars(select(Event).where(Event.kind == "signoff.approved"))
    assert (event.version, event.after, (event.evidence or {})["preferences"]["candidate"]) == (2, "approved", 3)


async def test_preferences_are_given_once_for_the_answer_to_them_tells_whose_is_which(
    people: dict[str, httpx.AsyncClient], waiting: str
) -> None:
    sheet = (await people["carol"].get(f"{PATH}/evaluation-sheet")).json()
    blind = {item["prompt"]: "A" for item in sheet["prompts"]}
    first = (await say(people["carol"], waiting, preferences=blind)).json()["signoffs"][0]
    for other in (blind | {sheet["prompts"][0]["prompt"]: "B"}, {sheet["prompts"][0]["prompt"]: "A"}):
        refused = await say(people["carol"], waiting, preferences=other)
        assert (refused.status_code, refused.json()["code"]) == (409, "preferences_fixed")
    told = (await say(people["carol"], waiting, "reject", notes="on second thoughts")).json()
    assert told["state"] == "rejected"
    assert (await say(people["carol"], waiting, preferences=blind)).json()["state"] == "approved"
    assert (await say(people["dave"], waiting)).status_code == 201
    late = await say(people["dave"], waiting, preferences=blind)
    assert late.json()["code"] == "preferences_fixed"
    words = (await people["viewer"].get(f"{PATH}/signoffs")).json()["signoffs"]
    assert [word["preferences"] for word in words] == [first["preferences"]] * 3 + [{}]


async def test_while_a_sign_off_is_missing_a_reviewer_is_not_told_what_others_prefer(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    async with sessions() as session, session.begin():
        await apply(session, "fraud", definition(signoff=SIGNED["signoff"] | {"count": 3}), actor="test")
    sheet = (await people["carol"].get(f"{PATH}/evaluation-sheet")).json()
    blind = {item["prompt"]: "A" for item in sheet["prompts"]}
    assert (await say(people["carol"], waiting, preferences=blind)).json()["signoffs"][0]["preferences"]
    assert (await say(people["dave"], waiting)).json()["signoffs"][0]["preferences"] is None
    assert (await people["viewer"].get(f"{PATH}/signoffs")).json()["signoffs"][0]["preferences"] is None
    late = await say(people["dave"], waiting, preferences=blind)
    assert (late.status_code, len(late.json()["signoffs"][0]["preferences"])) == (201, 4)


async def test_a_rejection_blocks_until_its_reviewer_says_otherwise(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    await say(people["carol"], waiting)
    assert (await say(people["dave"], waiting, "reject", notes="rude")).json()["state"] == "rejected"
    assert await reloaded(sessions, force=True) == "signoff_rejected"
    assert (await say(people["dave"], waiting)).json()["state"] == "approved"
    assert len((await people["viewer"].get(f"{PATH}/signoffs")).json()["signoffs"]) == 3


async def test_who_triggered_it_is_never_the_only_one_to_approve(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    carol = (await say(people["carol"], waiting)).json()["approvals"][0]
    async with sessions() as session, session.begin():
        renamed = {"actor": f"another name ({carol.partition('(')[2]}"}
        await session.execute(text("UPDATE training_jobs SET actor = :actor WHERE id = 2"), renamed)
    standing = (await people["viewer"].get(f"{PATH}/signoffs")).json()
    assert (standing["state"], "somebody else" in standing["missing"][0]) == ("missing", True)
    assert await reloaded(sessions) == "signoff_missing"
    await say(people["dave"], waiting)
    assert await reloaded(sessions) == "reloaded"


async def test_a_word_that_does_not_count_is_refused_by_name(
    people: dict[str, httpx.AsyncClient], waiting: str
) -> None:
    unread = await say(people["carol"], "f" * 64)
    assert (unread.status_code, unread.json()["code"]) == (409, "evaluation_outdated")
    assert (await say(people["viewer"], waiting)).status_code == 403
    strange = await say(people["carol"], waiting, preferences={"f" * 16: "A"})
    assert (strange.status_code, strange.json()["code"]) == (422, "not_on_the_sheet")
    missing = await people["carol"].get("/model/versions/fraud/1/evaluation-sheet")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_evaluation")


async def test_of_the_first_version_there_is_one_answer_and_nothing_to_prefer(
    people: dict[str, httpx.AsyncClient], sessions: Maker, config: Settings, store: Path
) -> None:
    digest = keep(store, evaluation(incumbent=None))
    async with sessions() as session, session.begin():
        await define(session, "fraud", **SIGNED)
        await read(session, config, digest=digest)
    path = "/model/versions/fraud/1"
    sheet = (await people["carol"].get(f"{path}/evaluation-sheet")).json()
    assert [list(item["answers"]) for item in sheet["prompts"]] == [["A"]] * 4
    body = {"verdict": "approve", "evaluation": digest}
    preferring = body | {"preferences": {sheet["prompts"][0]["prompt"]: "A"}}
    assert (await people["carol"].post(f"{path}/signoff", json=preferring)).json()["code"] == "nothing_to_prefer"
    assert await reloaded(sessions) == "signoff_missing"
    await people["carol"].post(f"{path}/signoff", json=body)
    assert await reloaded(sessions) == "reloaded"


async def test_automatic_reload_waits_for_the_sign_off_and_says_so_once(sessions: Maker, waiting: str) -> None:
    async with sessions() as session, session.begin():
        await apply(session, "fraud", definition(**SIGNED, promotion={"reload": "automatic"}), actor="test")
        await promotion.promote(session, "fraud")
        await promotion.promote(session, "fraud")
    async with sessions() as session:
        put_off = select(Event.after).where(Event.kind == "slots.put_off")
        assert (await session.scalars(put_off)).all() == ["signoff_missing"]
        assert (await slots(session, "fraud")).active == 1


async def test_a_rollback_asks_nobody(people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str) -> None:
    await say(people["carol"], waiting)
    async with sessions() as session, session.begin():
        await swap.reload(session, Change("fraud", "test"), watch_minutes=0)
        await swap.rollback(session, Change("fraud", "test", "worse"), 1, hold=True)
        assert (await slots(session, "fraud")).active == 1


async def test_what_was_said_is_never_changed(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    await say(people["carol"], waiting)
    async with sessions() as session, session.begin():
        with pytest.raises(DBAPIError, match="signoffs"):
            await session.execute(text("UPDATE signoffs SET verdict = 'reject'"))


async def test_release_notes_tell_figures_people_and_limits(
    people: dict[str, httpx.AsyncClient], sessions: Maker, config: Settings, store: Path
) -> None:
    digest = keep(store, evaluation(notes=["perplexity: the server gives no likelihoods"]))
    criterion = {"name": "token_f1", "verdict": "inconclusive", "candidate": 0.61, "reason": "too few rows"}
    details = {"evaluation": digest, "stages": {"prepare": {"rows_cut": 7, "rows": 90}}}
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await version(session, config, "fraud")
        await trigger(session, config, "fraud", reason="new counselling transcripts")
        told = candidate() | {"details": details}
        told["gate"] |= {"criteria": [criterion], "confidence": 0.98}
        await state.complete(session, await claim(session), told)
    await say(people["carol"], digest, notes="# kinder", preferences={f"{3:016x}": "tie"})
    notes = (await people["viewer"].get(f"{PATH}/release-notes")).json()
    assert notes["limitations"] == [
        "token_f1 is inconclusive: too few rows",
        "perplexity: the server gives no likelihoods",
        "stages, prepare, rows cut: 7",
    ]
    assert (notes["metrics"]["bleu"], notes["reviewers"]["preferences"]["tie"]) == (0.4, 1)
    assert notes["approvals"]["triggered_by"].startswith("alice")
    assert notes["deltas"]["confidence_of_intervals"] == 0.98
    shown = (await people["viewer"].get(f"{PATH}/release-notes", params={"format": "md"})).text
    assert all(f"## {title}" in shown for title in ("Data version", "Metrics", "Known limitations", "Who"))
    assert "\\# kinder" in shown
    record = (await people["viewer"].get("/training/jobs/2/record")).json()
    assert record["signoffs"]["signoffs"][0]["preferred"] == {"candidate": 0, "incumbent": 0, "tie": 1}


async def test_where_nobody_has_a_key_a_sign_off_says_that_keys_are_what_is_missing(
    api: FastAPI, client: httpx.AsyncClient, sessions: Maker, config: Settings, waiting: str
) -> None:
    """Under REFIT_AUTH=off everybody is `local`, so whoever triggers and whoever approves are the same."""
    async with sessions() as session, session.begin():
        await session.execute(text("UPDATE training_jobs SET actor = 'local (local)'"))
    api.state.settings = config.model_copy(update={"auth": "off"})
    word = {"verdict": "approve", "evaluation": waiting}
    told = (await client.post("/model/versions/fraud/2/signoff", json=word)).json()
    assert told["state"] == "missing"
    refused = await client.post("/model/reload", json={"model": "fraud"})
    assert (refused.status_code, refused.json()["code"]) == (409, "signoff_missing")
    for missing in (told["missing"], refused.json()["missing"]):
        assert "somebody else than local (local)" in missing[0]
        assert "take REFIT_AUTH=off away" in missing[1]
        assert "refit keys create" in missing[1]
    assert "take REFIT_AUTH=off away" in refused.json()["detail"]


async def test_a_sign_off_that_was_promised_when_it_was_trained_cannot_be_lifted_afterwards(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    async with sessions() as session, session.begin():
        await apply(session, "fraud", definition(signoff=None), actor="test")
    assert await reloaded(sessions, force=True) == "signoff_missing"
    assert (await say(people["viewer"], waiting)).status_code == 403
    assert (await say(people["carol"], waiting)).json()["state"] == "approved"
    assert await reloaded(sessions) == "reloaded"


async def test_a_version_is_held_to_what_was_promised_and_to_what_is_asked_for_now(
    people: dict[str, httpx.AsyncClient], sessions: Maker, waiting: str
) -> None:
    async with sessions() as session, session.begin():
        await apply(session, "fraud", definition(signoff={"count": 2, "role": "viewer"}), actor="test")
    told = (await say(people["viewer"], waiting)).json()
    assert (told["required"], told["role"], told["state"]) == (2, "operator", "missing")
    assert "1 more of 1 approvals by the role operator" in told["missing"]
    assert "1 more of 2 approvals by the role viewer" in told["missing"]
    assert (await say(people["carol"], waiting)).json()["state"] == "approved"


async def test_who_made_what_it_goes_on_from_or_planned_it_is_never_the_only_one_to_approve(
    people: dict[str, httpx.AsyncClient], sessions: Maker, config: Settings, waiting: str
) -> None:
    """Job 3 is dave's plan, which job 4 confirms; 5 goes on from 4, and version 2 is of 6, which does so too."""
    carol = (await say(people["carol"], waiting)).json()["approvals"][0]
    dave = (await say(people["dave"], waiting)).json()["approvals"][1]
    chain = {3: (dave, None, None), 4: ("erin (e)", None, 3), 5: (carol, 4, None), 6: ("frank (f)", 4, None)}
    async with sessions() as session, session.begin():
        for id, (actor, root, confirms) in chain.items():
            job = await trigger(session, config, "fraud")
            told = {"actor": actor, "checkpoint_of": root, "confirms": confirms, "state": "completed"}
            await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(told))
            assert job.id == id
        await session.execute(update(ModelVersion).where(ModelVersion.number == 2).values(job_id=6))
    standing = (await people["viewer"].get(f"{PATH}/signoffs")).json()
    assert (standing["state"], standing["made_by"]) == ("missing", ["frank (f)", carol, "erin (e)", dave])
    assert carol in standing["missing"][0]
    assert await reloaded(sessions) == "signoff_missing"
