"""An evaluation as people read it: of a version, of a job that left none, and until its files go."""

import asyncio
import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.service import create_key
from app.db import clock
from app.evaluation import kept
from app.evaluation.report import markdown
from app.evaluation.schemas import Answered, Evaluation, EvaluationView, Row
from app.gate.report import CriterionResult, GateReport
from app.records import retention
from app.registry.tables import ModelVersion
from app.settings import Settings
from app.training import state
from app.training.tables import TrainingJob
from tests.factories import candidate, claim, define, trigger
from workers.supervise import Attempt

Maker = async_sessionmaker[AsyncSession]
HOSTILE = "<script>alert(1)</script>\n# not a heading | `x`"


def evaluation(model: str = "tutor", rows: int = 3) -> Evaluation:
    criterion = CriterionResult(
        name="token_f1", verdict="fail", candidate=0.5, incumbent=0.75, delta=-0.25, requirement=">= incumbent - 0.01",
        n=rows, interval=(-0.5, -0.0625), reason="a loss",
    )  # fmt: skip
    gate = GateReport(
        verdict="fail", mode="point", incumbent=2, data_version="d" * 64, rows=rows, rows_per_class={},
        criteria=[criterion], reason="token_f1: a loss.", confidence=0.98,
    )  # fmt: skip

    def answered(f1: float) -> Answered:
        return Answered(text=HOSTILE, finish_reason="length", seconds=0.5, scores={"token_f1": f1, "perplexity": None})

    told = [
        Row(
            prompt=f"{place:016x}",
            messages=[{"role": "user", "content": HOSTILE}],
            reference="5",
            candidate=answered(0.5 + place / 10),
            incumbent=answered(0.75),
            beside={"risk": "high"},
        )
        for place in reversed(range(rows))
    ]
    corpus: dict[str, dict[str, float | None]] = {
        "token_f1": {"candidate": 0.5, "low": 0.25, "high": 0.75, "incumbent": 0.75, "delta": -0.25}
    }
    return Evaluation(
        model=model, artifact="a" * 64, data_version="d" * 64, incumbent=2, rows=told, corpus=corpus, gate=gate,
        judges={"empathy": {"url": "http://j", "model": "j", "rubric": HOSTILE}}, notes=[HOSTILE], salt="the salt",
    )  # fmt: skip


@pytest.fixture
async def version(sessions: Maker, config: Settings) -> str:
    """Version 1 of `tutor` has an evaluation; the digest of it."""
    digest = kept.keep(config.store, evaluation())
    async with sessions() as session, session.begin():
        await define(session, "tutor")
        await trigger(session, config, "tutor")
        published = candidate(verdict="fail") | {"details": {"evaluation": digest}}
        assert await state.complete(session, await claim(session), published, evaluation=digest) == 1
    return digest


async def archived(client: httpx.AsyncClient, **headers: str) -> dict[str, bytes]:
    packed = (await client.get("/training/jobs/1/archive", headers=headers)).content
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = [(each.name.removeprefix("job-1/"), tar.extractfile(each)) for each in tar]
        return {name: file.read() for name, file in files if file is not None}


async def test_the_archive_of_its_job_has_it_for_who_may_read_rows_and_as_long_as_it_is_kept(
    client: httpx.AsyncClient, sessions: Maker, config: Settings, version: str
) -> None:
    told = await archived(client)
    assert orjson.loads(told["evaluation.json"]) == evaluation().findings.model_dump(mode="json")
    assert told["evaluation.md"].decode().startswith("# tutor v1: evaluation")
    assert told["SHA256SUMS"].count(b"evaluation.") == 2
    async with sessions() as session, session.begin():
        viewer = await create_key(session, name="eve", roles=["viewer"], actor="test")
    assert "evaluation.json" not in await archived(client, Authorization=f"Bearer {viewer}")
    kept.path_of(config.store, version).unlink()
    assert set(told) - set(await archived(client)) == {"evaluation.json", "evaluation.md"}


async def test_nobody_is_shown_what_decides_the_sides_of_the_blind_sheet(
    client: httpx.AsyncClient, config: Settings, version: str
) -> None:
    assert b"the salt" in kept.content_of(config.store, version)
    path = "/model/versions/tutor/1"
    asked = [f"{path}/evaluation", f"{path}/evaluation-sheet", f"{path}/release-notes", "/training/jobs/1/evaluation"]
    told = [(await client.get(each)).text for each in asked]
    told += [content.decode() for content in (await archived(client)).values()]
    assert all("the salt" not in each for each in told)
    before = evaluation().findings.model_dump_json()
    assert Evaluation.model_validate_json(before).salt == ""


async def test_a_version_tells_how_it_answered_worst_first(client: httpx.AsyncClient, version: str) -> None:
    found = (await client.get("/model/versions/tutor/1/evaluation", params={"samples": 2})).json()
    assert (found["digest"], found["version"], found["rows_answered"]) == (version, 1, 3)
    assert [row["prompt"] for row in found["rows"]] == [f"{place:016x}" for place in range(2)]
    of_job = (await client.get(f"/training/jobs/{found['job_id']}/evaluation")).json()
    assert of_job["digest"] == version


async def test_the_report_makes_no_markup_of_what_models_and_users_wrote(
    client: httpx.AsyncClient, version: str
) -> None:
    told = await client.get("/model/versions/tutor/1/evaluation", headers={"accept": "text/markdown"})
    assert told.headers["content-type"].startswith("text/markdown")
    assert told.text.startswith("# tutor v1: evaluation\n\n**fail**: token\\_f1: a loss.")
    assert "| token\\_f1 | 0.5 | 0.75 | -0.25 | -0.5 to -0.0625 | 3 | \\>= incumbent - 0.01 | fail |" in told.text
    assert "0.5 | 0.25 to 0.75 | 0.75" in told.text
    assert told.text.count("98 %") == 3
    assert "<script>" not in told.text
    assert "\n# not" not in told.text
    same = EvaluationView.of(evaluation(), version, 1, 1, 20)
    assert markdown(same) == told.text


async def test_what_has_no_evaluation_and_one_that_is_gone_are_named(
    client: httpx.AsyncClient, version: str, config: Settings, sessions: Maker
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "plain")
        await trigger(session, config, "plain")
        await state.complete(session, await claim(session), candidate())
        key = await create_key(session, name="viewer", roles=["viewer"], actor="test")
    none = await client.get("/model/versions/plain/1/evaluation")
    assert (none.status_code, none.json()["code"]) == (404, "no_evaluation")
    as_viewer = await client.get("/model/versions/tutor/1/evaluation", headers={"authorization": f"Bearer {key}"})
    assert as_viewer.status_code == 403
    kept.path_of(config.store, version).write_text("{}")
    gone = await client.get("/model/versions/tutor/1/evaluation")
    assert (gone.status_code, gone.json()["code"]) == (404, "evaluation_not_found")


async def evaluated_alone(sessions: Maker, config: Settings, digest: str) -> int:
    """A job of the stage evaluate, as its supervisor writes its end."""
    async with sessions() as session, session.begin():
        await define(session, "tutor")
        row = await trigger(session, config, "tutor")
        held = await claim(session)
        job = await session.get_one(TrainingJob, held.job_id, populate_existing=True)
    attempt = Attempt(config, sessions, job, asyncio.Event(), time.monotonic())
    gate = {"verdict": "fail"}
    outcome: dict[str, Any] = {"outcome": "evaluation", "metrics": {"token_f1": 0.5}, "comparison": {}, "gate": gate}
    attempt._journal.outcome = outcome | {"evaluation": digest}
    async with sessions() as session, session.begin():
        await attempt._write(session, "exited", 0)
    return row.id


async def test_a_job_that_only_evaluates_tells_its_figures_and_leaves_no_version(
    client: httpx.AsyncClient, config: Settings, sessions: Maker
) -> None:
    digest = kept.keep(config.store, evaluation())
    job = await evaluated_alone(sessions, config, digest)
    told = (await client.get(f"/training/jobs/{job}")).json()
    assert (told["status"], told["version"], told["verdict"], told["evaluation"]) == ("completed", None, "fail", digest)
    assert told["metrics"] == {"token_f1": 0.5}
    read = await client.get(f"/training/jobs/{job}/evaluation", params={"format": "md"})
    assert read.text.startswith(f"# tutor, job {job}: evaluation")


async def test_a_type_that_keeps_its_checkpoints_keeps_them_when_it_completes(
    config: Settings, sessions: Maker
) -> None:
    left = {}
    for model_type in ("classifier", "llm"):
        async with sessions() as session, session.begin():
            await define(session, model_type)
            await trigger(session, config, model_type)
            held = await claim(session)
            job = await session.get_one(TrainingJob, held.job_id, populate_existing=True)
        job.model_type = model_type
        attempt = Attempt(config, sessions, job, asyncio.Event(), time.monotonic())
        attempt._checkpoints().mkdir(parents=True)
        attempt._journal.outcome = {"outcome": "candidate", "version": candidate(), "metrics": {}, "base": None}
        async with sessions() as session, session.begin():
            await attempt._write(session, "exited", 0)
        left[model_type] = attempt._checkpoints().is_dir()
    assert left == {"classifier": False, "llm": True}


async def test_evaluations_go_with_the_files_of_their_version_or_with_the_checkpoints_of_their_job(
    version: str, config: Settings, sessions: Maker
) -> None:
    alone, orphan = (kept.keep(config.store, evaluation(rows=n)) for n in (4, 5))
    job = await evaluated_alone(sessions, config, alone)
    unpublished, young = (make(config.store / "artifacts" / digit) for digit in ("e" * 64, "f" * 64))

    async def run() -> set[str]:
        async with sessions() as session, session.begin():
            leaving = await retention.run(session, config)
        await retention.remove_folders(leaving.folders)
        return {path.stem for path in (config.store / "evaluations").iterdir()}

    assert await run() == {version, alone, orphan}
    long_ago = time.time() - config.retain_checkpoint_days * 86_400 - 60
    for path in (kept.path_of(config.store, orphan), unpublished):
        os.utime(path, (long_ago, long_ago))
    assert await run() == {version, alone}
    assert (unpublished.exists(), young.exists()) == (False, True)
    async with sessions() as session, session.begin():
        then = text(f"clock_timestamp() - interval '{config.retain_checkpoint_days + 1} days'")
        await session.execute(update(TrainingJob).where(TrainingJob.id == job).values(finished_at=then))
        await session.execute(update(TrainingJob).where(TrainingJob.version == 1).values(finished_at=then))
    assert await run() == {version}
    async with sessions() as session, session.begin():
        await session.execute(update(ModelVersion).values(artifact_removed_at=clock()))
    assert await run() == set()


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder
