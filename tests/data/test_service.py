import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data import service
from app.data.sources import samples
from app.data.tables import DataQuality, DataVersion
from app.db import clock
from app.definitions.service import resolve_model
from app.errors import Invalid, NotFound
from app.events.tables import Event
from app.settings import Settings
from app.training.tables import TrainingJob
from tests.factories import define, definition, trigger

Maker = async_sessionmaker[AsyncSession]


def version(digest: str, model: str = "fraud", **more: Any) -> DataVersion:
    empty: dict[str, Any] = {"counts": {}, "dropped": {}, "labels": [], "columns": [], "split": {}}
    source = {"source": "samples", "label": "y", "key": "id", "time": None}
    known = {"duplicates": 0, "high_water": "100", "source": source, "bytes": 1, "job_id": None}
    return DataVersion(**({"model": model, "digest": digest * 64, "rows": 100} | empty | known | more))


@pytest.fixture
async def in_transaction(session: AsyncSession) -> AsyncIterator[AsyncSession]:
    async with session.begin():
        await define(session, "fraud", "spam")
        yield session


async def trained_on(session: AsyncSession, settings: Settings, digest: str, **more: Any) -> None:
    job = await trigger(session, settings, "fraud")
    values = {"state": "completed", "data_digest": digest * 64, **more}
    await session.execute(update(TrainingJob).where(TrainingJob.id == job.id).values(values))


async def post(session: AsyncSession, n: int) -> None:
    rows = [{"id": i, "x": i, "y": i % 2} for i in range(n)]
    await service.post_samples(session, await resolve_model(session, "fraud"), rows)


# Data versions


async def test_a_data_version_is_found_by_the_beginning_of_its_digest(in_transaction: AsyncSession) -> None:
    for digest in "ab":
        await service.insert_version(in_transaction, version(digest))
    found = await service.resolve(in_transaction, "fraud", "aaaaaa")
    assert found is not None
    assert found.digest == "a" * 64
    assert await service.resolve(in_transaction, "fraud", "latest") is None


async def test_a_beginning_of_two_digests_is_ambiguous(in_transaction: AsyncSession) -> None:
    for end in "bc":
        row = version("a")
        row.digest = "a" * 63 + end
        await service.insert_version(in_transaction, row)
    with pytest.raises(Invalid) as refused:
        await service.resolve(in_transaction, "fraud", "aaaaaa")
    assert refused.value.code == "data_version_ambiguous"


@pytest.mark.parametrize("name", ["cccccc", "aaa", "%%%%%%", "bbbbbb"])
async def test_an_unknown_data_version_says_where_to_look(in_transaction: AsyncSession, name: str) -> None:
    await service.insert_version(in_transaction, version("a"))
    await service.insert_version(in_transaction, version("b", model="spam"))
    with pytest.raises(NotFound) as refused:
        await service.resolve(in_transaction, "fraud", name)
    assert refused.value.code == "data_version_unknown"
    assert "`refit data list fraud` or GET /data/versions" in str(refused.value.remedy)


async def test_the_same_content_again_is_the_same_data_version(in_transaction: AsyncSession) -> None:
    for rows in (100, 999):
        await service.insert_version(in_transaction, version("a", rows=rows))
    found = await service.latest_version(in_transaction, "fraud")
    assert found is not None
    assert found.rows == 100


# New samples


async def test_before_the_first_training_every_sample_is_new(in_transaction: AsyncSession) -> None:
    await post(in_transaction, 30)
    assert await service.count_new(in_transaction, "fraud", definition()) == 30


async def test_samples_since_the_last_training_are_new(in_transaction: AsyncSession, config: Settings) -> None:
    await service.insert_version(in_transaction, version("a", rows=20, high_water="20"))
    await trained_on(in_transaction, config, "a")
    await post(in_transaction, 30)
    assert await service.count_new(in_transaction, "fraud", definition()) == 10


@pytest.mark.parametrize("job", [{"state": "failed"}, {"dry_run": True}])
async def test_a_training_that_gave_no_version_used_nothing_up(
    in_transaction: AsyncSession, config: Settings, job: dict[str, Any]
) -> None:
    await service.insert_version(in_transaction, version("a", rows=20, high_water="20"))
    await trained_on(in_transaction, config, "a", **job)
    await post(in_transaction, 30)
    assert await service.count_new(in_transaction, "fraud", definition()) == 30


async def test_the_mark_of_another_time_column_is_not_compared(in_transaction: AsyncSession, config: Settings) -> None:
    source = {"source": "samples", "time": "t"}
    await service.insert_version(in_transaction, version("a", rows=20, high_water="2024-01-01T00:00:00", source=source))
    await trained_on(in_transaction, config, "a")
    await post(in_transaction, 30)
    assert await service.count_new(in_transaction, "fraud", definition()) == 10


async def test_a_source_that_takes_too_long_tells_nothing(
    in_transaction: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(samples, "count", never)
    monkeypatch.setattr(service, "COUNT_SECONDS", 0.01)
    assert await service.count_new(in_transaction, "fraud", definition()) is None
    await resolve_model(in_transaction, "fraud")  # the transaction goes on


# Data quality


async def worst_of_last_day(session: AsyncSession) -> str | None:
    return service.worst_of((await service.quality_of_last_day(session, "fraud")).values())


async def report(session: AsyncSession, status: str, source: str = "rows", model: str | None = "fraud") -> None:
    await session.execute(insert(DataQuality).values(model=model, status=status, source=source))


async def test_the_worst_of_what_each_check_said_last_counts(in_transaction: AsyncSession) -> None:
    assert await worst_of_last_day(in_transaction) is None
    await report(in_transaction, "healthy")
    await report(in_transaction, "warning", source="nulls")
    assert await worst_of_last_day(in_transaction) == "warning"
    await report(in_transaction, "critical")
    assert await worst_of_last_day(in_transaction) == "critical"
    await report(in_transaction, "healthy", source="nulls")
    assert await worst_of_last_day(in_transaction) == "critical"
    await report(in_transaction, "healthy")
    assert await worst_of_last_day(in_transaction) == "healthy"


async def test_a_report_without_a_model_speaks_of_all_and_one_of_another_model_of_none(
    in_transaction: AsyncSession,
) -> None:
    await report(in_transaction, "critical", model="spam")
    assert await worst_of_last_day(in_transaction) is None
    await report(in_transaction, "warning", model=None)
    assert await worst_of_last_day(in_transaction) == "warning"


async def test_what_was_said_the_day_before_no_longer_counts(in_transaction: AsyncSession) -> None:
    await report(in_transaction, "critical")
    await in_transaction.execute(update(DataQuality).values(at=clock() - timedelta(hours=24, seconds=1)))
    assert await worst_of_last_day(in_transaction) is None


# Over HTTP


@pytest.fixture
async def fraud(sessions: Maker) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", "spam")


async def test_a_quality_report_is_kept_and_recorded(
    client: httpx.AsyncClient, session: AsyncSession, fraud: None
) -> None:
    body = {"model": "fraud", "status": "critical", "source": "nulls", "details": {"column": "x", "share": 0.4}}
    answer = await client.post("/data/quality", json=body)
    assert answer.status_code == 202, answer.text
    kept = await session.get_one(DataQuality, answer.json()["id"])
    assert (kept.status, kept.details) == ("critical", {"column": "x", "share": 0.4})
    event = await session.scalar(select(Event).where(Event.kind == "data.quality"))
    assert event is not None
    assert (event.model, event.after, event.actor[:4]) == ("fraud", "critical", "test")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b'{"status": "bad", "source": "x"}', 422, "status"),
        (b'{"status": "warning", "source": " "}', 422, "source"),
        (b'{"status": "warning", "source": "x", "details": {"a": NaN}}', 422, "details"),
        (rb'{"status": "warning", "source": "x", "details": {"a": "\u0000"}}', 422, "details"),
        (b'{"status": "warning", "source": "x", "model": "nobody"}', 404, None),
    ],
)
async def test_a_bad_quality_report_is_refused_by_its_field(
    client: httpx.AsyncClient, body: bytes, status: int, field: str | None
) -> None:
    answer = await client.post("/data/quality", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert field is None or answer.json()["errors"][0]["field"] == field


async def test_data_versions_are_listed_newest_first_page_by_page(
    client: httpx.AsyncClient, sessions: Maker, fraud: None
) -> None:
    async with sessions() as session, session.begin():
        for digest in "abc":
            await service.insert_version(session, version(digest))
        await service.insert_version(session, version("d", model="spam"))
    first = (await client.get("/data/versions", params={"model": "fraud", "limit": 2})).json()
    assert [v["digest"][0] for v in first["data"]] == ["c", "b"]
    assert first["has_more"]
    after = {"model": "fraud", "limit": 2, "after": first["next"]}
    second = (await client.get("/data/versions", params=after)).json()
    assert ([v["digest"][0] for v in second["data"]], second["has_more"], second["next"]) == (["a"], False, None)
    assert len((await client.get("/data/versions")).json()["data"]) == 4


@pytest.mark.parametrize("after", ["x", f"fraud:{'e' * 64}", "fraud:\0"])
async def test_a_cursor_of_nothing_is_refused(client: httpx.AsyncClient, after: str) -> None:
    assert (await client.get("/data/versions", params={"after": after})).status_code == 422
