"""Polls are answered from memory, and memory is never older than what was said or than a second."""

import asyncio
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import recall
from app.news import News
from app.recall import Memory, Told
from app.registry import swap
from app.registry.swap import Change
from app.settings import Settings
from app.training import state
from tests.factories import claim, define, trigger

SLOTS = "/model/slots?model=fraud"
STATUS = "/training/status?model=fraud"


class View(BaseModel):
    reading: int


class Book:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.readings = 0

    async def read(self) -> Told:
        self.readings += 1
        await asyncio.sleep(0)
        return Told.of(View(reading=self.readings), ("slots", "fraud"))


async def polled(memory: Memory) -> bytes:
    told = await memory.poll("key")
    assert told is not None
    return told.body


@pytest.fixture
def news(config: Settings) -> News:
    return News(config, "slots")


async def test_a_thousand_who_ask_at_once_are_one_reading(news: News) -> None:
    memory, book = Memory(news), Book()
    told = await asyncio.gather(*[memory.recall("key", book.read) for _ in range(1_000)])
    assert ({t.body for t in told}, book.readings) == ({b'{"reading":1}'}, 1)


async def test_what_is_kept_is_read_again_after_a_word_on_its_topic_and_no_other(news: News) -> None:
    memory, book = Memory(news), Book()
    await memory.recall("key", book.read)
    news._tell("slots", "another")
    assert await memory.poll("key") == await memory.poll("key")
    assert book.readings == 1
    news._tell("slots", "fraud")
    assert await polled(memory) == b'{"reading":2}'


async def test_a_word_that_comes_while_it_is_read_is_not_missed(news: News) -> None:
    memory, book = Memory(news), Book()

    async def read() -> Told:
        told = await book.read()
        news._tell("slots", "fraud")
        return told

    await memory.recall("key", read)
    await memory.poll("key")
    assert book.readings == 2


async def test_after_a_lost_connection_everything_is_read_again(news: News) -> None:
    memory, book = Memory(news), Book()
    await memory.recall("key", book.read)
    news._tell("", "")
    await memory.poll("key")
    assert book.readings == 2


async def test_nothing_older_than_a_second_is_told_though_nothing_was_said(
    news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, book = Memory(news), Book()
    await memory.recall("key", book.read)
    monkeypatch.setattr(recall, "FRESH_SECONDS", 0.0)
    assert await polled(memory) == b'{"reading":2}'


async def test_a_reading_that_fails_is_told_to_all_who_wait_and_tried_again(news: News) -> None:
    memory, book = Memory(news), Book()

    async def fail() -> Told:
        raise OSError

    told = await asyncio.gather(*[memory.recall("key", fail) for _ in range(3)], return_exceptions=True)
    assert [type(error) for error in told] == [OSError] * 3
    assert (await memory.recall("key", book.read)).body == b'{"reading":1}'


async def test_what_is_kept_is_bounded(news: News, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "KEPT", 3)
    memory, book = Memory(news), Book()
    for key in "abcde":
        await memory.recall(key, book.read)
    assert [await memory.poll(key) is not None for key in "abcde"] == [False, False, True, True, True]


@pytest.fixture
async def fraud(sessions: async_sessionmaker[AsyncSession], config: Settings) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")
        await trigger(session, config, "fraud")


@pytest.mark.parametrize("path", [SLOTS, STATUS])
async def test_a_poll_asks_postgres_nothing(api: FastAPI, client: httpx.AsyncClient, fraud: None, path: str) -> None:
    etag = (await client.get(path)).headers["ETag"]
    known = {"If-None-Match": etag}
    await until(lambda: is_same(client, path, known))
    with statements(api) as asked:
        answers = [await client.get(path, headers=known) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {304}
    assert answers[0].headers["ETag"] == etag
    assert len(asked) <= 10  # what was read ahead once, where the second was nearly over


async def test_a_change_is_seen_by_the_next_poll(
    client: httpx.AsyncClient, fraud: None, sessions: async_sessionmaker[AsyncSession]
) -> None:
    slots, status = [(await client.get(path)).headers["ETag"] for path in (SLOTS, STATUS)]
    for path, etag in ((SLOTS, slots), (STATUS, status)):
        await client.get(path, headers={"If-None-Match": etag})
    async with sessions() as session, session.begin():
        await swap.hold(session, Change("fraud", "test", "of the test"))
        held = await claim(session)
        await state.advance(session, held, stage="train", progress=0.5)
    async with asyncio.timeout(0.9):
        while (held_now := await client.get(SLOTS, headers={"If-None-Match": slots})).status_code == 304:
            await asyncio.sleep(0.01)
        while (running := await client.get(STATUS, headers={"If-None-Match": status})).status_code == 304:
            await asyncio.sleep(0.01)
    assert held_now.json()["hold_reason"] == "of the test"
    assert (running.json()["status"], running.json()["progress"]) == ("running", 0.5)


async def test_whoever_asks_without_an_etag_reads_what_is_true_now(
    client: httpx.AsyncClient, fraud: None, sessions: async_sessionmaker[AsyncSession], api: FastAPI
) -> None:
    etag = (await client.get(SLOTS)).headers["ETag"]
    await client.get(SLOTS, headers={"If-None-Match": etag})
    api.state.news._tell = lambda *_: None  # as if no word ever came
    async with sessions() as session, session.begin():
        await swap.hold(session, Change("fraud", "test", "of the test"))
    assert (await client.get(SLOTS)).json()["hold_reason"] == "of the test"


@pytest.mark.parametrize("path", [SLOTS, STATUS])
async def test_a_poll_needs_a_key_as_well(client: httpx.AsyncClient, fraud: None, path: str) -> None:
    etag = (await client.get(path)).headers["ETag"]
    await client.get(path, headers={"If-None-Match": etag})
    refused = await client.get(path, headers={"If-None-Match": etag, "Authorization": "Bearer refit_no_key"})
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


async def is_same(client: httpx.AsyncClient, path: str, known: dict[str, str]) -> bool:
    """Also the replica's own first heartbeats change the slots, so the first ETag may be outdated at once."""
    answer = await client.get(path, headers=known)
    known["If-None-Match"] = answer.headers["ETag"]
    return answer.status_code == 304


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not await holds():
            await asyncio.sleep(0.01)


@contextmanager
def statements(api: FastAPI) -> Any:
    """What this process's requests send to Postgres meanwhile."""
    asked: list[str] = []
    engine = api.state.sessions.kw["bind"].sync_engine

    def note(*told: Any) -> None:
        asked.append(told[2])

    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)
