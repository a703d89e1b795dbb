"""Answers that people accepted or rejected are rows to learn from, with what was said of them last."""

import json
import uuid
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data import conversations
from app.data.sources import Reading, feedback
from app.db import clock, seconds
from app.feedback.tables import Feedback, PredictionLog
from tests.factories import define, definition

Maker = async_sessionmaker[AsyncSession]
OPTIONS = feedback.Options.model_validate({"source": "feedback"})
CHAT = {"source": "samples", "chat": {"prompt": "prompt", "completion": "completion"}}


async def logged(sessions: Maker, *questions: str, model: str = "helpdesk", **more: Any) -> str:
    """The id of a request with those questions, kept as serving keeps it."""
    request = uuid.uuid4()
    rows = [{"messages": [{"role": "user", "content": question}]} for question in questions]
    answers = {"completions": [f"{question} Indeed." if question else " \n" for question in questions]}
    known = {"version": 3, "generation": 5, "slot": "active", "keep_until": clock() + seconds(3600)}
    told = {"model": model, "request": request, "rows": rows, "answers": answers} | known | more
    async with sessions() as session, session.begin():
        await session.execute(insert(PredictionLog).values(**told))
    return request.hex


async def say(client: httpx.AsyncClient, request: str, accepted: bool, row: int = 0, model: str = "helpdesk") -> None:
    body = {"model": model, "feedback": [{"request_id": request, "row": row, "accepted": accepted}]}
    answer = await client.post("/feedback", json=body)
    assert answer.status_code == 202, answer.text


@pytest.fixture
async def read(sessions: Maker) -> Any:
    async with sessions() as session, session.begin():
        await define(session, "helpdesk", "other", data=CHAT)

    async def read() -> list[dict[str, Any]]:
        async with sessions() as session:
            table = await feedback.read(OPTIONS, Reading(session, "helpdesk"))
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    return read


async def test_a_judged_answer_is_a_row_with_what_was_said_of_it_last(
    client: httpx.AsyncClient, sessions: Maker, read: Any
) -> None:
    first = await logged(sessions, "One?", "Two?")
    await say(client, first, True)
    await say(client, first, True, row=1)
    await say(client, first, False)
    rows = {row["row"]: row for row in await read()}
    assert [(row["completion"], row["accepted"]) for _, row in sorted(rows.items())] == [
        ("One? Indeed.", False),
        ("Two? Indeed.", True),
    ]
    assert json.loads(rows[1]["prompt"]) == [{"role": "user", "content": "Two?"}]
    assert (rows[0]["version"], rows[0]["request"]) == (3, first)


async def test_what_is_no_answer_of_this_model_or_says_nothing_is_no_row(
    client: httpx.AsyncClient, sessions: Maker, read: Any
) -> None:
    theirs = await logged(sessions, "Whose?", model="other")
    ours = await logged(sessions, "Ours?", "")
    await say(client, theirs, True, model="other")
    await say(client, theirs, True)  # said of the wrong model
    await say(client, uuid.uuid4().hex, True)  # never logged
    await say(client, ours, True, row=1)  # the model said nothing
    await say(client, ours, True, row=7)  # beyond the answer
    assert await read() == []
    await say(client, ours, True)
    assert [row["completion"] for row in await read()] == ["Ours? Indeed."]
    async with sessions() as session, session.begin():
        await session.execute(update(Feedback).values(state="invalid"))
    assert await read() == []


async def test_rows_are_counted_as_they_are_read_and_since_the_last_training(
    client: httpx.AsyncClient, sessions: Maker, read: Any
) -> None:
    requests = [await logged(sessions, f"{n}?") for n in range(5)]
    for request in requests[:3]:
        await say(client, request, True)
    since = max(row["at"] for row in await read()).isoformat()
    for request in requests[2:]:
        await say(client, request, False)

    async def count(mark: str | None) -> int:
        async with sessions() as session:
            return await feedback.count(OPTIONS, Reading(session, "helpdesk", mark))

    assert (len(await read()), await count(None), await count(since), await count("4")) == (5, 5, 3, 1)


async def test_the_rows_need_no_other_words_to_be_conversations(
    client: httpx.AsyncClient, sessions: Maker, read: Any
) -> None:
    await say(client, await logged(sessions, "One?"), True)
    async with sessions() as session:
        rows = await feedback.read(OPTIONS, Reading(session, "helpdesk"))
    table = conversations.canonical(rows, OPTIONS)
    assert table.column_names == ["at", "version", "request", "row", "prompt", "completion", "accepted"]
    assert (OPTIONS.chat.kind if OPTIONS.chat else None, OPTIONS.time) == ("judged", "at")


def test_feedback_without_a_log_is_refused_when_it_is_defined() -> None:
    with pytest.raises(ValidationError, match=r"set logging\.sample above 0"):
        definition(data=CHAT, preference={"data": {"source": "feedback"}})
    definition(data=CHAT, preference={"data": {"source": "feedback"}}, logging={"sample": 1})
    with pytest.raises(ValidationError, match="preference is of language models"):
        definition(preference={"data": CHAT})
