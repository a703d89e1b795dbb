import asyncio
import gc
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.sources import Reading, options_of, sql
from app.definitions.service import load
from app.errors import Invalid
from app.events.tables import Event
from tests.factories import define

SELECT = "SELECT id, x, y, t FROM sales"


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (id INTEGER, x REAL, y INTEGER, t TEXT)")
        rows = [(i, i / 2, None if i == 3 else i % 2, f"2024-01-0{i} 00:00:00") for i in range(1, 6)]
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


def options(url: str, query: str = SELECT, **more: Any) -> sql.Options:
    found = options_of({"source": "sql", "url": url, "query": query, "label": "y", **more})
    assert isinstance(found, sql.Options)
    return found


def reading(since: str | None = None) -> Reading:
    return Reading(session=None, model="sales", since=since)  # type: ignore[arg-type] # another database is read


async def refusal(chosen: sql.Options) -> Invalid:
    with pytest.raises(Invalid) as refused:
        await sql.read(chosen, reading())
    return refused.value


async def test_a_query_is_read_in_chunks_into_one_table(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "CHUNK", 2)
    table = await sql.read(options(url), reading())
    assert table.to_pydict()["x"] == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert table.column_names == ["id", "x", "y", "t"]


async def test_a_query_without_rows_still_has_its_columns(url: str) -> None:
    table = await sql.read(options(url, SELECT + " WHERE id < 0"), reading())
    assert (table.num_rows, table.column_names) == (0, ["id", "x", "y", "t"])


async def test_the_high_water_mark_of_the_last_training_is_a_parameter(url: str) -> None:
    chosen = options(url, SELECT + " WHERE :since IS NULL OR t > :since;", time="t")
    assert (await sql.read(chosen, reading())).num_rows == 5
    assert (await sql.read(chosen, reading("2024-01-03T00:00:00"))).num_rows == 2


async def test_new_rows_are_counted_by_the_database_and_only_with_a_label(url: str) -> None:
    assert await sql.count(options(url, time="t"), reading()) == 4
    assert await sql.count(options(url, time="t"), reading("2024-01-02T00:00:00")) == 2
    assert await sql.count(options(url, time="id"), reading("4")) == 1
    assert await sql.count(options(url), reading("1")) == 3


async def test_a_query_that_ends_in_a_comment_is_counted(url: str) -> None:
    assert await sql.count(options(url, SELECT + " -- all of them"), reading()) == 4


async def test_nothing_can_be_written(url: str) -> None:
    with sql._connected(options(url)) as connection, pytest.raises(Exception, match="readonly database"):
        connection.execute(text("DELETE FROM sales"))


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sales",
        "SELECT 1; DROP TABLE sales",
        "SELECT 1 /* ; */; DELETE FROM sales",
        "",
        "/* SELECT */ UPDATE sales SET y = 1",
    ],
)
def test_anything_but_one_select_is_refused(query: str) -> None:
    with pytest.raises(ValidationError, match="one SELECT is wanted"):
        options("sqlite:///x.db", query)


@pytest.mark.parametrize(
    "query", ["SELECT ';' AS x", "-- the sales; all\nSELECT 1; ", "WITH a AS (SELECT 1) SELECT * FROM a"]
)
def test_a_semicolon_in_text_or_comment_ends_nothing(query: str) -> None:
    options("sqlite:///x.db", query)


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(ValidationError, match="unknown parameter :until"):
        options("sqlite:///x.db", "SELECT * FROM sales WHERE t < :until")


def test_since_needs_a_time_column() -> None:
    with pytest.raises(ValidationError, match=r"name it in data\.time"):
        options("sqlite:///x.db", SELECT + " WHERE t > :since")


async def test_a_failed_query_tells_what_the_database_said_and_no_url(url: str) -> None:
    refused = await refusal(options(url, "SELECT profit FROM sales"))
    assert (refused.code, refused.message) == ("query_failed", "The query failed: no such column: profit.")


async def test_columns_of_the_same_name_are_named(url: str) -> None:
    refused = await refusal(options(url, "SELECT id, x AS id FROM sales"))
    assert refused.code == "column_twice"


async def test_mixed_types_are_told_by_their_column(url: str) -> None:
    refused = await refusal(options(url, "SELECT 1 AS y UNION ALL SELECT 'many'"))
    assert "column 'y' mixes int and str" in refused.message


async def test_a_database_that_is_away_is_told_without_its_password() -> None:
    refused = await refusal(options("postgresql://reader:hunter2@127.0.0.1:1/shop"))
    assert refused.code == "source_unreachable"
    assert "hunter2" not in str(refused.problem())


def test_a_driver_that_tells_the_password_is_silenced() -> None:
    url = make_url("postgresql://reader:hunter2@db/shop")
    assert sql._said(url, OSError("cannot log in as reader:hunter2.")) == "cannot log in as reader:***"


async def test_a_missing_driver_is_named() -> None:
    refused = await refusal(options("oracle://reader@db/shop"))
    assert refused.code == "source_unreachable"
    assert "Install the driver of oracle" in str(refused.remedy)


async def test_a_sqlite_file_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    refused = await refusal(options(f"sqlite:///{tmp_path}/none.db"))
    assert refused.code == "source_unreachable"
    assert "none.db" not in os.listdir(tmp_path)  # noqa: PTH208 - Path would do the same, and ruff forbids it here


async def test_the_url_may_stand_in_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", url)
    assert (await sql.read(options("env:SHOP_URL"), reading())).num_rows == 5
    monkeypatch.delenv("SHOP_URL")
    assert "SHOP_URL is not set" in (await refusal(options("env:SHOP_URL"))).message


def test_a_password_is_only_written_for_who_keeps_the_definition() -> None:
    chosen = options("postgresql://reader:hunter2@db/shop?sslpassword=hunter3")
    assert "hunter" not in str(chosen.model_dump(mode="json"))
    kept = chosen.model_dump(mode="json", context={"secrets": True})
    assert options_of(kept) == chosen
    with pytest.raises(ValidationError, match="the password is masked"):
        options_of(chosen.model_dump(mode="json"))


async def test_postgres_is_read_with_its_own_types_and_never_written(session: AsyncSession) -> None:
    own = session.get_bind().engine.url.render_as_string(hide_password=False)
    query = """SELECT 1.5::numeric AS x, gen_random_uuid() AS id, clock_timestamp() AS t, true AS y, '12:30'::text AS at
               WHERE clock_timestamp() > COALESCE(CAST(:since AS timestamptz), '-infinity')"""
    chosen = options(own.replace("+psycopg", ""), query, time="t")
    (row,) = (await sql.read(chosen, reading(datetime(2024, 1, 1, tzinfo=UTC).isoformat()))).to_pylist()
    assert (row["x"], row["y"], row["at"], len(row["id"])) == (1.5, True, "12:30", 36)
    assert await sql.count(chosen, reading(datetime(2024, 1, 1, tzinfo=UTC).isoformat())) == 1
    writing = options(own, "SELECT lo_create(0) AS y")
    assert "read-only transaction" in (await refusal(writing)).message


async def test_a_statement_that_takes_too_long_is_stopped(session: AsyncSession) -> None:
    own = session.get_bind().engine.url.render_as_string(hide_password=False)
    refused = await refusal(options(own, "SELECT pg_sleep(60), 1 AS y", timeout_seconds=0.1))
    assert "statement timeout" in refused.message


async def test_the_password_of_a_source_works_after_it_was_kept_and_is_shown_to_nobody(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    url = "postgresql://reader:hunter2@db/shop"
    async with session.begin():
        await define(session, "fraud", data={"source": "sql", "url": url, "query": "SELECT 1 AS y", "label": "y"})
        kept = (await load(session, "fraud")).definition
        evidence = await session.scalar(select(Event.evidence).where(Event.kind == "model.defined"))
    assert isinstance(kept.data, sql.Options)
    assert kept.data.url == url
    assert "hunter2" not in str(evidence)
    assert "hunter2" not in (await client.get("/models/fraud")).text


# psycopg warns of a cursor that was left open, and there is no connection left to close it on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_database_that_goes_away_in_the_middle_is_told_and_gives_no_rows(
    database_url: str, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "CHUNK", 100)
    # Some seconds' worth of rows, should nobody come to end it.
    long = options(database_url, "SELECT generate_series(1, 3000000) AS id, 'text' AS text, 1 AS y")
    reads = asyncio.create_task(sql.read(long, reading()))
    others = "backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()"
    begun = "xact_start < clock_timestamp() - interval '0.3 s'"
    kill = text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others} AND {begun}")
    while not reads.done():
        await session.execute(kill)
        await session.commit()  # for as long as a transaction lasts, it sees who was there when it first looked
        await asyncio.sleep(0.1)
    with pytest.raises(Invalid) as refused:
        await reads
    assert refused.value.code == "query_failed"
    del refused, reads
    gc.collect()
