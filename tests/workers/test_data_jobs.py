"""Jobs that only take a data version, and those that label it first: real attempts, a language model by script."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data.tables import DataVersion, Sample
from app.errors import Invalid
from app.registry.tables import ModelVersion
from app.settings import Settings, settings
from app.training import service, state
from app.training.schemas import TriggerRequest
from app.training.tables import TrainingJob
from tests.factories import ALICE, definition
from tests.language_models import Body, Reply, scripted
from workers import catalog
from workers.supervise import Attempt

WORDS = ["card", "money", "pin"]
LABEL: dict[str, Any] = {"model": "tiny", "prompt": "card, money or pin?", "attempts": 2, "concurrency": 2}
ROWS = 120
# Of texts as short as these most are nearly equal.
TEXT = {"columns": ["text"], "near_duplicates": None}

Run = Callable[..., Awaitable[TrainingJob]]


def right(_: int, body: Body) -> Reply:
    return Reply(json.dumps({"y": body["messages"][-1]["content"].split()[0]}))


@pytest.fixture
async def run(config: Settings, sessions: async_sessionmaker[AsyncSession], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Triggers a job on the texts of `news`, half of which have a wrong label, and runs its attempt to the end."""
    for name in ("database_url", "broker_url", "data_dir"):
        monkeypatch.setenv(f"REFIT_{name.upper()}", str(getattr(config, name)))
    settings.cache_clear()
    data = {"source": "samples", "label": "y", "key": "id", "labels": WORDS, "text": TEXT}
    async with sessions() as session, session.begin():
        await catalog.publish(session)
        from app.definitions.service import apply

        await apply(session, "news", definition(type="embedding_classifier", data=data), actor="test")
        await session.execute(insert(Sample), [_row(i) for i in range(ROWS)])

    async def run(**asked: Any) -> TrainingJob:
        async with sessions() as session, session.begin():
            await service.trigger(session, config, TriggerRequest(model="news", **asked), ALICE)
        return await attempt(config, sessions)

    return run


async def attempt(config: Settings, sessions: async_sessionmaker[AsyncSession]) -> TrainingJob:
    import uuid

    async with sessions() as session, session.begin():
        job = await state.claim(session, uuid.uuid4(), ["cpu"], 15.0)
        assert job is not None
    await Attempt(config, sessions, job, asyncio.Event(), time.monotonic()).run()
    async with sessions() as session:
        return await session.get_one(TrainingJob, job.id)


def _row(i: int) -> dict[str, Any]:
    label = WORDS[i % 3] if i % 2 else WORDS[0]
    return {"model": "news", "key": str(i), "row": {"id": i, "text": f"{WORDS[i % 3]} number {i}", "y": label}}


async def versions(session: AsyncSession) -> list[DataVersion]:
    return list((await session.scalars(select(DataVersion).order_by(DataVersion.created_at))).all())


async def test_a_job_can_take_a_data_version_and_train_nothing(run: Run, session: AsyncSession) -> None:
    job = await run(stages=["snapshot"])
    assert job.error is None
    [taken] = await versions(session)
    assert (job.state, job.version, job.data_digest, taken.rows) == ("completed", None, taken.digest, ROWS)
    assert (await session.scalars(select(ModelVersion))).all() == []


async def test_labels_of_a_language_model_are_a_data_version_that_names_them(run: Run, session: AsyncSession) -> None:
    await run(stages=["snapshot"])
    with scripted(right) as model:
        job = await run(stages=["label"], label=LABEL | {"url": model.url})
    assert job.state == "completed", job.error
    plain, labelled = await versions(session)
    assert (job.data_digest, labelled.rows, plain.labelling) == (labelled.digest, ROWS, None)
    told = labelled.labelling
    assert told is not None
    assert (told["model"], told["prompt"], told["asked"]) == ("tiny", LABEL["prompt"], ROWS)
    assert told["agreement"]["y"]["same"] == 80
    assert {each["label"]: each["rows"] for each in labelled.labels} == dict.fromkeys(WORDS, ROWS // 3)
    # Every row stays on its side, whoever labels it.
    assert labelled.counts == plain.counts


async def test_a_labelling_that_changes_nothing_is_another_data_version_all_the_same(
    run: Run, session: AsyncSession
) -> None:
    with scripted(right) as model:
        first = await run(stages=["label"], label=LABEL | {"url": model.url})
        again = await run(stages=["label"], label=LABEL | {"url": model.url}, data_version=first.data_digest)
        other = await run(
            stages=["label"], label=LABEL | {"url": model.url, "prompt": "which?"}, data_version=first.data_digest
        )
        assert len(model.asked) == 2 * ROWS
    assert first.data_digest == again.data_digest
    assert other.data_digest != first.data_digest


async def test_a_model_that_goes_away_fails_the_job_and_a_resumed_one_asks_only_the_rest(
    run: Run, config: Settings, sessions: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    with scripted(lambda n, body: right(n, body) if n < 50 else Reply(status=404)) as model:
        job = await run(stages=["label"], label=LABEL | {"url": model.url})
        assert job.error is not None
        assert (job.state, job.error["code"]) == ("failed", "endpoint_unreachable")
        assert await versions(session) == []
        model.script = right
        asked = len(model.asked)
        async with sessions() as other, other.begin():
            await service.resume(other, config, job.id, ALICE)
        resumed = await attempt(config, sessions)
        assert resumed.state == "completed", resumed.error
        assert len(model.asked) - asked <= ROWS - 50 + LABEL["concurrency"]


async def test_a_definition_that_labels_does_so_before_it_trains_and_says_how_far_it_is(
    run: Run, sessions: async_sessionmaker[AsyncSession], session: AsyncSession, tmp_path: Path
) -> None:
    from app.definitions.service import apply, load
    from tests import encoders

    with scripted(right) as model:
        async with sessions() as other, other.begin():
            known = (await load(other, "news")).definition
            told = known.model_dump(mode="json") | {
                "label": LABEL | {"url": model.url},
                "training": {"encoder": str(encoders.make(tmp_path / "tiny")), "optuna_trials": 1, "cv_folds": 2},
                "gate": {"min_rows": 5, "min_rows_per_class": 1},
            }
            await apply(other, "news", type(known).model_validate(told), actor="test")
        job = await run()
    assert (job.state, job.version) == ("completed", 1), job.error
    assert (job.gate or {})["verdict"] == "pass"
    [taken] = await versions(session)
    assert taken.labelling is not None
    assert job.labelling is not None


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"stages": ["label"]}, "label_missing"), ({"stages": ["label"], "label": {"url": "x"}}, "label_missing")],
)
async def test_labelling_that_nobody_described_is_refused_at_once(run: Run, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        await run(**asked)
    assert refused.value.code == code


async def test_rows_are_exported_the_same_each_time_and_only_to_who_may_train(
    run: Run, client: httpx.AsyncClient, session: AsyncSession
) -> None:
    assert (await client.get("/data/versions/news/latest")).json()["code"] == "data_version_unknown"
    await run(stages=["snapshot"])
    sides = {}
    for side in ("train", "validation", "holdout", "retired"):
        first, again = [await client.get(f"/data/versions/news/latest/rows?side={side}") for _ in range(2)]
        assert first.status_code == 200, first.text
        assert first.content == again.content
        assert first.headers["content-type"] == "application/x-ndjson"
        sides[side] = [json.loads(line) for line in first.content.splitlines()]
    [taken] = await versions(session)
    assert {side: len(rows) for side, rows in sides.items()} == taken.counts
    assert sides["train"][0].keys() == {"id", "text", "y"}
    key = (await client.post("/keys", json={"name": "v", "roles": ["viewer"]})).json()["key"]
    refused = await client.get("/data/versions/news/latest/rows?side=train", headers={"Authorization": f"Bearer {key}"})
    assert refused.status_code == 403
    shown = (await client.get(f"/data/versions/news/{taken.digest[:8]}")).json()
    assert (shown["digest"], shown["texts"]["merged"]) == (taken.digest, 0)
