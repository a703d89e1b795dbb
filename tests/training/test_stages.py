"""Single stages run again on what an earlier job has left, on the same rows; what cannot be is refused by name."""

import shutil
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import RefitError
from app.settings import Settings
from app.training.schemas import JobView, TriggerRequest
from app.training.tables import TrainingJob
from tests.factories import ALICE, define, trigger
from tests.training.costly import DIGEST, PREFERENCES, allowing, data_version, define_costly, left_behind

FREE = {"prerequisites": {"min_new_samples": 0, "confirmation": False}}


@pytest.fixture
async def settings(session: AsyncSession, config: Settings) -> Settings:
    await define_costly(session, **FREE)
    return allowing(config)


async def refused(session: AsyncSession, settings: Settings, **asked: Any) -> RefitError:
    with pytest.raises(RefitError) as found:
        await trigger(session, settings, "assistant", **asked)
    return found.value


async def trained(session: AsyncSession, settings: Settings) -> TrainingJob:
    job = await trigger(session, settings, "assistant")
    await left_behind(session, settings, job)
    return job


async def test_stages_go_on_from_the_newest_job_that_left_anything_on_its_rows(
    session: AsyncSession, settings: Settings
) -> None:
    first = await trained(session, settings)
    shutil.rmtree(await left_behind(session, settings, await trigger(session, settings, "assistant")))
    job = await trigger(session, settings, "assistant", stages=["publish", "evaluate"], params={"epochs": 2})
    assert (job.checkpoint_of, job.data_version, job.preference_digest) == (first.id, DIGEST, PREFERENCES)
    assert (job.stages, job.params) == (["evaluate", "publish"], {"epochs": 2})
    view = JobView.of(job, ALICE)
    assert (view.resumes, view.preference_version, view.stages) == (first.id, PREFERENCES, ["evaluate", "publish"])


async def test_the_same_stages_in_another_order_are_the_same_job(session: AsyncSession, settings: Settings) -> None:
    await trained(session, settings)
    job = await trigger(session, settings, "assistant", stages=["evaluate", "publish"])
    assert (await trigger(session, settings, "assistant", stages=["publish", "evaluate"])).id == job.id


async def test_what_goes_on_from_a_job_that_went_on_has_the_same_root(
    session: AsyncSession, settings: Settings
) -> None:
    first = await trained(session, settings)
    second = await trigger(session, settings, "assistant", stages=["evaluate"])
    folder = await left_behind(session, settings, second)
    shutil.rmtree(folder)
    third = await trigger(session, settings, "assistant", stages=["evaluate"], from_job=second.id)
    assert third.checkpoint_of == first.id


async def test_without_anything_left_it_is_refused_and_with_the_first_stage_it_begins_anew(
    session: AsyncSession, settings: Settings
) -> None:
    assert (await refused(session, settings, stages=["evaluate"])).code == "nothing_to_go_on_from"
    assert (await refused(session, settings, stages=["evaluate"], from_job=999)).code == "nothing_to_go_on_from"
    job = await trigger(session, settings, "assistant", stages=["prepare", "sft"])
    assert (job.checkpoint_of, job.data_version) == (None, "latest")


async def test_the_rows_of_what_is_gone_on_from_are_fixed(session: AsyncSession, settings: Settings) -> None:
    await trained(session, settings)
    await data_version(session, "f" * 64)
    other = await refused(session, settings, stages=["evaluate"], data_version="ffffff")
    assert other.code == "data_version_fixed"
    assert (await trigger(session, settings, "assistant", stages=["evaluate"], data_version="dddddd")).data_version


@pytest.mark.parametrize(
    ("stages", "code", "named"),
    [
        (["evaluat"], "unknown_stage", "Did you mean evaluate? There is snapshot, label, prepare, sft"),
        (["snapshot", "sft"], "stages_mixed", "one after the other"),
        (["sft"], "stage_switched_off", "Add sft"),
    ],
)
async def test_stages_that_cannot_be_are_refused_with_what_there_is(
    session: AsyncSession, settings: Settings, stages: list[str], code: str, named: str
) -> None:
    await define_costly(session, training={"stages": ["prepare", "evaluate", "publish"]}, **FREE)
    found = await refused(session, settings, stages=stages)
    assert (found.code, named in str(found.remedy)) == (code, True)


async def test_a_type_that_does_all_or_nothing_has_only_the_stages_of_data(
    session: AsyncSession, config: Settings
) -> None:
    await define(session, "fraud")
    with pytest.raises(RefitError) as found:
        await trigger(session, config, "fraud", stages=["evaluate"])
    assert (found.value.code, found.value.details["stages"]) == ("unknown_stage", ["snapshot", "label"])


async def test_what_was_confirmed_is_evaluated_again_without_a_token_and_trained_otherwise_with_one(
    session: AsyncSession, settings: Settings
) -> None:
    await trained(session, settings)
    await define_costly(session)
    assert (await trigger(session, settings, "assistant", stages=["evaluate", "publish"])).id
    other = await refused(session, settings, stages=["sft"], params={"epochs": 9})
    assert [reason["code"] for reason in other.details["reasons"]][-1] == "confirmation_required"


async def test_the_command_that_plans_it_names_the_job_that_is_gone_on_from(
    session: AsyncSession, settings: Settings
) -> None:
    first = await trained(session, settings)
    await define_costly(session)
    told = await refused(session, settings, stages=["evaluate"], from_job=first.id, params={"epochs": 9})
    assert f"refit trigger assistant --dry-run --stage evaluate --from-job {first.id}" in str(told.remedy)


@pytest.mark.parametrize(
    "asked",
    [
        {"stages": ["snapshot"], "dry_run": True},
        {"from_job": 1},
        {"confirm": "1-0123456789ab", "dry_run": True},
        {"confirm": "12"},
    ],
)
def test_what_contradicts_itself_is_no_request(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"dry run|from_job|confirm"):
        TriggerRequest.model_validate(asked)
