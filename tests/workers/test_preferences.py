"""What an attempt takes for preference learning: a data version of its own, once a job, where the job comes there."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data import leaks, service
from app.data.tables import DataVersion, Sample
from app.definitions.tables import ModelType
from app.errors import Invalid
from app.registry.lineage import learnt_from
from app.registry.tables import ModelVersion
from app.settings import Settings
from app.training import service as training
from app.training import state
from app.training.tables import TrainingJob
from tests.factories import ALICE, candidate, claim, define, trigger
from workers.attempt import _run
from workers.inputs import Inputs, take_inputs
from workers.pipelines import llm
from workers.progress import Progress

CHAT = {"source": "samples", "key": "id", "chat": {"prompt": "question", "completion": "answer"}}
PAIRS = {"source": "samples", "chat": {"prompt": "question", "chosen": "answer", "rejected": "worse"}}
ROWS = 200

Take = Callable[..., Awaitable[tuple[Inputs, list[dict[str, Any]]]]]


@pytest.fixture
async def take(config: Settings, sessions: async_sessionmaker[AsyncSession]) -> Take:
    """Triggers a job of `helpdesk` and takes its inputs, with all that was told meanwhile; or takes them once more."""
    async with sessions() as session, session.begin():
        await define(session, "helpdesk", data=CHAT, preference={"data": PAIRS})
        await session.execute(update(ModelType).values(pulls=True))
        await post(session, 0, ROWS)

    async def take(job: TrainingJob | None = None, **asked: Any) -> tuple[Inputs, list[dict[str, Any]]]:
        told: list[dict[str, Any]] = []
        async with sessions() as session, session.begin():
            values = {"params": {"base_model": "/base"} | asked.pop("params", {}), "stages": asked.pop("stages", None)}
            if job is None:
                job = await trigger(session, config, "helpdesk", **asked)
                await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(values))
        async with sessions() as session:
            inputs, _, _ = await take_inputs(session, config.store, job.id, lambda _: llm.PIPELINE, told.append)
        async with sessions() as session, session.begin():
            told_figures = {k: v for each in told if each["kind"] == "figures" for k, v in each.items() if k != "kind"}
            known = {k: v for k, v in told_figures.items() if k in ("data_digest", "preference_digest")}
            await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(known))
        return inputs, told

    return take


async def post(session: AsyncSession, start: int, end: int) -> None:
    rows = [
        {"id": i, "question": f"What is {i}?", "answer": f"It is {i}.", "worse": "Who knows."}
        for i in range(start, end)
    ]
    await session.execute(insert(Sample), [{"model": "helpdesk", "key": str(r["id"]), "row": r} for r in rows])


async def ends(sessions: async_sessionmaker[AsyncSession], job: TrainingJob) -> None:
    async with sessions() as session, session.begin():
        await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(state="failed"))


async def test_preferences_are_a_data_version_of_their_own_that_the_job_names(
    take: Take, session: AsyncSession
) -> None:
    inputs, told = await take()
    assert inputs.preference is not None
    roles = {v.digest: v.role for v in await session.scalars(select(DataVersion))}
    assert roles == {inputs.version.digest: "training", inputs.preference.version.digest: "preference"}
    assert {"kind": "figures", "preference_digest": inputs.preference.version.digest} in told
    assert inputs.preference.snapshot.labels == ("chosen", "rejected")
    newest = await service.latest_version(session, "helpdesk")
    assert newest is not None
    assert newest.digest == inputs.version.digest


async def test_a_later_attempt_and_a_job_that_resumes_learn_from_the_same_preferences(
    take: Take, config: Settings, sessions: async_sessionmaker[AsyncSession]
) -> None:
    first, _ = await take()
    async with sessions() as session, session.begin():
        await post(session, ROWS, ROWS + 50)
    again, _ = await take(first.job)
    await ends(sessions, first.job)
    async with sessions() as session, session.begin():
        resumed = await training.resume(session, config, first.job.id, ALICE)
    third, _ = await take(resumed)
    assert first.preference
    for later in (again, third):
        assert later.preference
        assert later.preference.version.digest == first.preference.version.digest
    await ends(sessions, resumed)
    fresh, _ = await take()
    assert fresh.preference
    assert fresh.preference.version.rows == ROWS + 50


@pytest.mark.parametrize(
    ("asked", "is_there"),
    [
        ({}, True),
        ({"params": {"stages": ["sft", "export"]}}, False),
        ({"stages": ["sft"]}, False),
        ({"stages": ["preference"]}, True),
        ({"stages": ["evaluate"]}, True),
        ({"stages": ["snapshot"]}, False),
        ({"strategy": "pull"}, False),
        ({"dry_run": True}, True),
    ],
)
async def test_they_are_taken_only_where_the_job_comes_to_that_stage(
    take: Take, asked: dict[str, Any], is_there: bool
) -> None:
    inputs, _ = await take(**asked)
    assert (inputs.preference is not None) == is_there
    assert inputs.version.rows == ROWS  # whatever is asked for, there are rows to judge by


async def test_the_pipeline_gets_rows_stages_and_strategy(take: Take, config: Settings) -> None:
    inputs, told = await take(params={"base_model": "/base"}, stages=["preference", "merge"])
    run = _run(config.store, inputs, llm.PIPELINE, Progress(llm.PIPELINE.stages, told.append, labels=False), 1, None)
    assert run.preference is not None
    assert {"prompt", "chosen", "rejected"} <= set(run.preference.table("train").column_names)
    assert {"prompt", "completion"} <= set(run.data.table("holdout").column_names)
    assert run.stages == frozenset({"preference", "merge"})
    assert run.strategy == inputs.job.strategy


async def test_what_preferences_taught_counts_as_seen(
    take: Take, config: Settings, sessions: async_sessionmaker[AsyncSession]
) -> None:
    inputs, _ = await take()
    async with sessions() as session, session.begin():
        held = await claim(session)
        number = await state.complete(session, held, candidate() | {"data_version": inputs.version.digest})
        made = await session.get_one(ModelVersion, ("helpdesk", number))
        taught = await learnt_from(session, made)
    assert inputs.preference
    assert [version and version.digest for version in taught] == [v.digest for v in inputs.learnt_from]
    assert [version and version.role for version in taught] == ["training", "preference"]
    judges = inputs.snapshot.rows.filter(pc.equal(inputs.snapshot.split, "holdout"))
    mask = leaks.seen_by_any(judges, inputs.version, taught, config.store)
    assert not isinstance(mask, str)
    assert not mask.any()


async def test_before_anybody_judged_an_answer_a_training_goes_without_unless_it_was_asked_for_that(
    take: Take, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "helpdesk", data=CHAT, preference={"data": {"source": "feedback"}}, logging={"sample": 1})
    inputs, told = await take()
    assert inputs.preference is None
    assert any("no preference learning: The source gave no rows." in each.get("message", "") for each in told)
    await ends(sessions, inputs.job)
    with pytest.raises(Invalid, match="gave no rows"):
        await take(stages=["preference"])


async def test_preferences_that_cannot_be_read_are_an_error(
    take: Take, sessions: async_sessionmaker[AsyncSession], tmp_path: Path
) -> None:
    gone = {"source": "file", "path": str(tmp_path / "gone.jsonl"), "chat": PAIRS["chat"]}
    async with sessions() as session, session.begin():
        await define(session, "helpdesk", data=CHAT, preference={"data": gone})
    with pytest.raises(Invalid, match="No file matches"):
        await take()


async def test_a_job_tells_what_the_files_that_it_reads_looked_like_before(
    take: Take, sessions: async_sessionmaker[AsyncSession], tmp_path: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [{"id": i, "question": f"What is {i}?", "answer": f"{i}", "worse": "?"} for i in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with sessions() as session, session.begin():
        from_file = PAIRS | {"source": "file", "path": str(file)}
        await define(session, "helpdesk", data=CHAT, preference={"data": from_file})
    inputs, told = await take()
    marks = [each["source_marks"] for each in told if "source_marks" in each]
    assert marks == [await service.marks_of(inputs.definition)]
    assert list(marks[-1]) == ["preferences"]
    await ends(sessions, inputs.job)
    _, told = await take(data_version=inputs.version.digest)
    assert not any("source_marks" in each for each in told)
