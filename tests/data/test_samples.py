from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data import service
from app.data.snapshots import load, take
from app.data.sources import ROW_ORDER, Reading, samples
from app.definitions.service import resolve_model
from app.errors import Invalid
from tests.factories import define

DATA = {"source": "samples", "label": "y", "key": "id", "time": "t"}


async def post(session: AsyncSession, *rows: dict[str, Any], model: str = "fraud") -> tuple[int, int]:
    found = await service.post_samples(session, await resolve_model(session, model), rows)
    return found.accepted, found.replaced


async def read(session: AsyncSession) -> list[dict[str, Any]]:
    table = await samples.read(samples.Options.model_validate(DATA), Reading(session, "fraud"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def row(key: Any, t: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": key, "t": t, "x": 0.5, "y": 1, **more}


async def test_rows_are_read_in_the_order_of_their_first_receipt(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "fraud", "spam", data=DATA)
        assert await post(session, row("b"), row("a")) == (2, 0)
        assert await post(session, row("c"), row("b", x=9)) == (2, 1)
        assert await post(session, row("z"), model="spam") == (1, 0)
        found = await read(session)
    assert [(r["id"], r["x"]) for r in found] == [("b", 9.0), ("a", 0.5), ("c", 0.5)]
    assert [r[ROW_ORDER] for r in found] == sorted(r[ROW_ORDER] for r in found)


async def test_a_key_that_stands_twice_in_a_post_is_one_row(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "fraud", data=DATA)
        assert await post(session, row("a", x=1), row("a", x=2)) == (2, 1)
        assert [r["x"] for r in await read(session)] == [2]


async def test_a_key_is_the_same_as_number_and_as_text(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "fraud", data=DATA)
        assert await post(session, row(7), row("7"), row(7.0)) == (3, 2)


async def test_a_row_without_a_key_that_is_sent_twice_is_one_row(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "fraud", data={"source": "samples", "label": "y"})
        assert await post(session, {"x": 1, "y": 1}, {"x": 1, "y": 0}) == (2, 0)
        assert await post(session, {"y": 0, "x": 1}) == (1, 1)


TEXTS = {
    "source": "samples",
    "label": "y",
    "labels": ["a", "b"],
    "key": "id",
    "text": {"columns": ["title", "content"], "longest": 20},
}
LABELLER = {"url": "http://127.0.0.1:9", "model": "tiny", "prompt": "a or b?"}


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"title": " ", "content": None}, "rows.0.title", "has no text"),
        ({"title": "x" * 21}, "rows.0.title", "has a text of 21 characters; at most 20 are read"),
        ({"content": 7}, "rows.0.content", "is no text"),
        ({"y": "c"}, "rows.0.y", "is none of data.labels"),
        ({"y": None}, "rows.0.y", "is missing; it is the label"),
    ],
)
async def test_a_text_that_no_data_version_would_take_is_refused_when_it_is_posted(
    session: AsyncSession, change: dict[str, Any], field: str, message: str
) -> None:
    async with session.begin():
        await define(session, "news", data=TEXTS)
        with pytest.raises(Invalid) as refused:
            await post(session, {"id": 1, "title": "a", "content": None, "y": "a"} | change, model="news")
    assert refused.value.details["errors"] == [{"field": field, "message": message}]


async def test_rows_without_a_label_are_taken_where_a_language_model_gives_it(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "news", data=TEXTS, label=LABELLER)
        assert await post(session, {"id": 1, "title": "a", "content": None}, model="news") == (1, 0)


async def test_rows_may_name_different_columns(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "fraud", data=DATA)
        await post(session, row("a"), row("b", city="Bern"), row("c", x=None))
        found = await read(session)
    assert [r["city"] for r in found] == [None, "Bern", None]


async def test_a_column_of_two_types_is_named(session: AsyncSession) -> None:
    async with session.begin():
        await define(session, "fraud", data=DATA)
        await post(session, row("a"), row("b", x="many"))
        with pytest.raises(Exception, match="column 'x' mixes float and str"):
            await read(session)


async def test_rows_of_many_chunks_are_one_table(session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CHUNK", 3)
    async with session.begin():
        await define(session, "fraud", data=DATA)
        await post(session, *(row(i, x=i if i < 5 else i + 0.5) for i in range(10)))
        assert [r["x"] for r in await read(session)] == [0, 1, 2, 3, 4, 5.5, 6.5, 7.5, 8.5, 9.5]


@pytest.mark.parametrize(
    ("times", "since", "newer"),
    [
        ([1, 2, 3.5], "2", 1),
        (["2024-01-01", "2024-01-02T10:00:00", "2024-01-03"], "2024-01-02T10:00:00", 1),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00-05:00"], "2024-01-01T00:00:00+00:00", 1),
        ([1, "2024-01-01"], "0", 1),
    ],
)
async def test_new_rows_are_counted_by_their_time(
    session: AsyncSession, times: list[Any], since: str, newer: int
) -> None:
    async with session.begin():
        await define(session, "fraud", data=DATA)
        await post(session, *(row(i, t) for i, t in enumerate(times)))
        options = samples.Options.model_validate(DATA)
        assert await samples.count(options, Reading(session, "fraud", since)) == newer
        assert await samples.count(options, Reading(session, "fraud")) == len(times)
        by_number = options.model_copy(update={"time": None})
        assert await samples.count(by_number, Reading(session, "fraud", "1")) == len(times) - 1


async def test_a_posted_row_keeps_its_place_when_it_is_posted_again(session: AsyncSession, store: Path) -> None:
    data = {"source": "samples", "label": "y", "key": "id", "time": "@row"}
    async with session.begin():
        await define(session, "fraud", data=data, split={"by": "time", "holdout": 0.2, "validation": 0.2})
        await post(session, *(row(i) for i in range(100)))
        applied = await resolve_model(session, "fraud")
        options, reading = samples.Options.model_validate(data), Reading(session, "fraud")
        rows = await samples.read(options, reading)
        first = await take("fraud", rows, applied.definition, store=store, previous=None, job_id=None)
        await post(session, row(95, x=7), *(row(i) for i in range(100, 300)))
        rows = await samples.read(options, reading)
        second = await take("fraud", rows, applied.definition, store=store, previous=first, job_id=None)
    found = load(store, second, applied.definition)
    assert found.split[found.rows["id"].to_pylist().index(95)].as_py() == "retired"


# Over HTTP


@pytest.fixture
async def fraud(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", data=DATA)


async def problem(client: httpx.AsyncClient, body: Any) -> dict[str, Any]:
    answer = (
        await client.post("/data/samples", json=body)
        if isinstance(body, dict)
        else await client.post("/data/samples", content=body, headers={"Content-Type": "application/json"})
    )
    assert answer.status_code == 422, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_posted_rows_are_accepted(client: httpx.AsyncClient, fraud: None) -> None:
    answer = await client.post("/data/samples", json={"model": "fraud", "rows": [row("a"), row("b")]})
    assert (answer.status_code, answer.json()) == (202, {"model": "fraud", "accepted": 2, "replaced": 0})


BAD_ROWS: list[tuple[dict[str, Any], str, str]] = [
    ({"id": "b", "t": 1, "x": 1}, "rows.1.y", "is missing; it is the label"),
    ({"id": "b", "t": 1, "y": None}, "rows.1.y", "is missing; it is the label"),
    ({"y": 1, "t": 1}, "rows.1.id", "is missing; it is the key"),
    ({"id": "b", "y": 1}, "rows.1.t", "is missing; it is the time"),
    (row("b", x=[1]), "rows.1.x", "is not flat"),
    (row("b", x={"z": 1}), "rows.1.x", "is not flat"),
    (row("b", x=2**63), "rows.1.x", "does not fit into 64 bits"),
    (row("b", x="a\0b"), "rows.1.x", "NUL"),
    (row("b", **{"@row": 1}), "rows.1.@row", "reserved"),
    (row("b", __split="train"), "rows.1.__split", "reserved"),
    (row("b", t="yesterday"), "rows.1.t", "neither a number nor a time"),
    (row("b", t="2024-02-30"), "rows.1.t", "neither a number nor a time"),
    (row("b", t=True), "rows.1.t", "neither a number nor a time"),
]


async def test_a_bad_row_is_named_and_nothing_is_accepted(
    client: httpx.AsyncClient, session: AsyncSession, fraud: None
) -> None:
    for bad, field, why in BAD_ROWS:
        found = await problem(client, {"rows": [row("a"), bad, row("c")]})
        assert (found["code"], found["errors"][0]["field"]) == ("invalid_rows", field), bad
        assert why in found["errors"][0]["message"]
        assert await read(session) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_a_number_that_is_none_is_refused(client: httpx.AsyncClient, fraud: None, number: str) -> None:
    found = await problem(client, f'{{"rows": [{{"id": 1, "t": 1, "y": 1, "x": {number}}}]}}'.encode())
    assert found["errors"] == [
        {"field": "rows.0.x", "message": "is not a finite number; send null where there is none"}
    ]


async def test_half_a_character_is_refused(client: httpx.AsyncClient, fraud: None) -> None:
    found = await problem(client, rb'{"rows": [{"id": 1, "t": 1, "y": 1, "x": "\ud800"}]}')
    assert found["errors"][0]["field"] == "rows.0.x"


@pytest.mark.parametrize("rows", [[], [row(i) for i in range(10_001)]])
async def test_no_rows_and_too_many_rows_are_refused(client: httpx.AsyncClient, fraud: None, rows: list[Any]) -> None:
    assert (await problem(client, {"rows": rows}))["errors"][0]["field"] == "rows"


async def test_a_model_that_reads_files_takes_no_samples(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud", data={"source": "file", "path": "/data/x.csv", "label": "y"})
    assert (await problem(client, {"rows": [row("a")]}))["code"] == "not_a_samples_source"


async def test_ten_thousand_rows_take_no_more_statements_than_one(session: AsyncSession) -> None:
    sent: list[str] = []
    async with session.begin():
        await define(session, "fraud", data=DATA)
        connection = (await session.connection()).sync_connection
        event.listen(connection, "before_cursor_execute", lambda *said: sent.append(said[2]))
        await post(session, row("a"))
        once = len(sent)
        assert await post(session, *(row(i) for i in range(10_000))) == (10_000, 0)
    assert len(sent) == 2 * once
