"""A costly training begins only where somebody has read its plan, and only as it was planned."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.roles import Principal, Role
from app.auth.service import create_key
from app.data import service as data
from app.definitions.service import resolve_model
from app.definitions.tables import ModelType
from app.errors import RefitError, Refused
from app.events.tables import Event
from app.settings import Settings
from app.training import service, state
from app.training.admission import prospect
from app.training.attempting import trigger_automatically
from app.training.schemas import TriggerRequest
from tests.factories import TRAINER, claim, define, trigger
from tests.training.costly import DIGEST, allowing, data_version, define_costly, planned, post

OPERATOR = Principal("0", "operator", frozenset({Role.OPERATOR}))


@pytest.fixture
async def settings(session: AsyncSession, config: Settings) -> Settings:
    await define_costly(session)
    await post(session, "a", "b")
    return allowing(config)


async def refused(session: AsyncSession, settings: Settings, **asked: Any) -> Refused:
    with pytest.raises(Refused) as found:
        await trigger(session, settings, "assistant", **asked)
    return found.value


async def test_a_costly_training_needs_the_token_of_a_dry_run_and_takes_its_data(
    session: AsyncSession, settings: Settings
) -> None:
    without = await refused(session, settings)
    assert (without.code, "refit trigger assistant --dry-run" in str(without.remedy)) == ("confirmation_required", True)
    plan = await planned(session, settings)
    job = await trigger(session, settings, "assistant", confirm=plan.confirmation)
    assert (job.confirms, job.data_version, job.overridden) == (plan.id, DIGEST, None)


async def test_a_dry_run_of_a_type_that_is_not_costly_has_no_token(session: AsyncSession, config: Settings) -> None:
    await define(session, "fraud")
    job = await trigger(session, config, "fraud", dry_run=True)
    await state.complete_without_version(session, await claim(session), {"steps": 3})
    assert (await service.get_job(session, job.id)).confirmation is None


async def test_a_token_that_no_dry_run_gave_is_refused_by_name(session: AsyncSession, settings: Settings) -> None:
    plan = await planned(session, settings)
    wrong = f"{plan.id}-{'0' * 12}"
    assert (await refused(session, settings, confirm=wrong)).code == "confirmation_unknown"


@pytest.mark.parametrize(
    ("changes", "asked", "named"),
    [
        ({}, {"params": {"epochs": 9}}, "params (epochs)"),
        ({"split": {"holdout": 0.2}}, {}, "definition (split)"),
        ({"signoff": {"count": 1}}, {}, "definition (signoff)"),
        ({"training": {"epochs": 2}}, {}, "params (epochs)"),
        ({}, {"stages": ["prepare", "sft"]}, "stages"),
    ],
)
async def test_a_token_dies_with_the_definition_and_the_parameters(
    session: AsyncSession, settings: Settings, changes: Any, asked: Any, named: str
) -> None:
    plan = await planned(session, settings)
    await define_costly(session, **changes)
    stale = await refused(session, settings, confirm=plan.confirmation, **asked)
    assert (stale.code, named in stale.message) == ("confirmation_stale", True)


async def test_other_words_about_the_model_leave_a_token_alive(session: AsyncSession, settings: Settings) -> None:
    plan = await planned(session, settings)
    await define_costly(session, description="kinder", gate={"min_rows": 5})
    assert (await trigger(session, settings, "assistant", confirm=plan.confirmation)).confirms == plan.id


async def test_a_token_dies_with_new_rows_and_with_a_newer_data_version(
    session: AsyncSession, settings: Settings
) -> None:
    plan = await planned(session, settings)
    await post(session, "c")
    stale = await refused(session, settings, confirm=plan.confirmation)
    assert (stale.code, "1 new rows" in stale.message) == ("confirmation_stale", True)
    await data_version(session, "f" * 64, rows=3)
    assert "newer data version" in (await refused(session, settings, confirm=plan.confirmation)).message


@pytest.mark.parametrize(
    ("token", "code"), [(None, "confirmation_required"), ("99-0123456789ab", "confirmation_unknown")]
)
async def test_force_does_not_pass_over_the_confirmation(
    session: AsyncSession, settings: Settings, token: str | None, code: str
) -> None:
    request = TriggerRequest(model="assistant", force=True, reason="the demo is today", confirm=token)
    with pytest.raises(Refused) as found:
        await service.trigger(session, settings, request, OPERATOR)
    assert (found.value.code, "refit trigger assistant --dry-run" in str(found.value.remedy)) == (code, True)


async def test_a_token_is_checked_although_an_equal_job_waits(session: AsyncSession, settings: Settings) -> None:
    await define_costly(session, prerequisites={"min_new_samples": 0, "confirmation": False})
    waits = await trigger(session, settings, "assistant")
    unknown = await refused(session, settings, confirm="99-0123456789ab")
    assert (unknown.code, unknown.details["reasons"][0]["code"]) == ("confirmation_unknown", "confirmation_unknown")
    assert (await trigger(session, settings, "assistant")).id == waits.id


async def test_an_automatic_trigger_is_refused_unless_the_definition_waives_the_confirmation(
    session: AsyncSession, settings: Settings
) -> None:
    async def by_itself() -> Any:
        return await trigger_automatically(
            session, settings, TriggerRequest(model="assistant"), TRAINER, trigger="schedule"
        )

    found = await by_itself()
    assert isinstance(found, RefitError)
    assert (found.code, "prerequisites.confirmation: false" in str(found.remedy)) == ("confirmation_automatic", True)
    assert await session.scalar(select(Event.after).where(Event.kind == "trigger.refused")) == "confirmation_automatic"
    await define_costly(session, prerequisites={"min_new_samples": 0, "confirmation": False})
    assert (await by_itself()).outcome == "accepted"


async def test_who_looks_before_triggering_sees_the_token_that_would_do(
    session: AsyncSession, settings: Settings
) -> None:
    async def look() -> Any:
        found = await prospect(session, settings, await resolve_model(session, "assistant"), TRAINER)
        return found, {check.code: check for check in found.checks}

    found, checks = await look()
    assert (found.admitted, checks["confirmation_required"].passed) == (False, False)
    plan = await planned(session, settings)
    found, checks = await look()
    assert (found.admitted, found.admitted_automatically) == (True, False)
    assert checks["confirmation_required"].value == plan.confirmation
    await post(session, "c")
    assert "confirmation_stale" in (await look())[1]


async def test_what_is_pulled_is_not_trained_and_needs_no_plan(session: AsyncSession, settings: Settings) -> None:
    with pytest.raises(RefitError) as unsupported:
        await trigger(session, settings, "assistant", strategy="pull")
    assert unsupported.value.code == "strategy_unsupported"
    await session.execute(update(ModelType).values(pulls=True))
    session.expire_all()
    assert (await trigger(session, settings, "assistant", strategy="pull")).strategy == "pull"


@pytest.mark.parametrize(
    ("told", "may"),
    [
        (None, False),
        ("", False),
        ("true", True),
        ("1", True),
        ("False", False),
        ("classifier", False),
        ("classifier, llm", True),
    ],
)
async def test_costly_types_train_only_where_they_are_allowed_by_name(told: str | None, may: bool) -> None:
    settings = Settings() if told is None else Settings(training_enabled=told)
    assert settings.may_train("llm", costly=True) is may
    assert Settings().may_train("classifier", costly=False)


async def test_a_type_that_is_switched_off_is_refused_with_what_to_write_but_may_be_planned(
    session: AsyncSession, config: Settings
) -> None:
    await define_costly(session)
    await define(session, "fraud")
    off = await refused(session, config)
    # Whoever writes that has lost none of the types that could be trained before.
    assert (off.code, "REFIT_TRAINING_ENABLED=classifier,llm " in str(off.remedy)) == ("training_disabled", True)
    assert (await trigger(session, config, "assistant", dry_run=True)).dry_run
    setup = config.model_copy(update={"training_enabled": False})
    assert (await refused(session, setup, stages=["snapshot"])).code == "training_disabled"


async def test_a_token_is_told_to_who_may_trigger_and_not_to_a_viewer(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], config: Settings
) -> None:
    """Also where polls are answered from memory, whoever asked first."""
    async with sessions() as session, session.begin():
        await define_costly(session)
        await post(session, "a", "b")
        token = str((await planned(session, allowing(config))).confirmation)
        viewer = await create_key(session, name="eve", roles=["viewer"], actor="test")
    paths = ["status?model=assistant", "jobs", "jobs/1", "jobs/1/events", "prerequisites?model=assistant"]
    for path in [f"/training/{path}" for path in paths]:
        for headers, is_told in (({}, True), ({"Authorization": f"Bearer {viewer}"}, False)):
            for poll in ({}, {"If-None-Match": '"old"'}, {"If-None-Match": '"old"'}):
                answer = await client.get(path, headers=headers | poll)
                assert (answer.status_code, token in answer.text) == (200, is_told)


@pytest.mark.parametrize("rewritten", ["data", "preferences"])
async def test_a_token_dies_with_files_that_were_written_since_though_their_rows_are_as_many(
    session: AsyncSession, config: Settings, tmp_path: Path, rewritten: str
) -> None:
    chat = {"chat": {"prompt": "question", "completion": "answer"}}
    pairs = {"chat": {"prompt": "question", "chosen": "better", "rejected": "worse"}}
    sources = {name: {"source": "file", "path": f"{tmp_path}/{name}.jsonl"} for name in ("data", "preferences")}
    rows = "".join(f'{{"question": "{n}?", "answer": "yes", "better": "a", "worse": "b"}}\n' for n in range(2))
    for name in sources:
        (tmp_path / f"{name}.jsonl").write_text(rows)
    await define_costly(session, data=sources["data"] | chat, preference={"data": sources["preferences"] | pairs})
    plan = await planned(session, allowing(config))
    definition = (await resolve_model(session, "assistant")).definition
    plan.source_marks = await data.marks_of(definition)
    assert set(plan.source_marks) == set(sources)
    await session.flush()
    (tmp_path / f"{rewritten}.jsonl").write_text(rows.replace("yes", "nay"))
    stale = await refused(session, allowing(config), confirm=plan.confirmation)
    assert (stale.code, f"{rewritten} (its files were written since)" in stale.message) == ("confirmation_stale", True)
    (tmp_path / f"{rewritten}.jsonl").unlink()
    stays = await trigger(session, allowing(config), "assistant", confirm=plan.confirmation)
    assert stays.data_version == DIGEST
