"""Labels come early, late, twice, wrong and for nobody: each is kept, and each is counted once."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock, seconds
from app.events.tables import Event
from app.feedback.joining import give_up, join_pending
from app.feedback.outcomes import Outcomes, outcomes, served_between
from app.feedback.tables import AnswerBlock, Feedback, FeedbackCounts
from app.records.tidy import tidy
from app.settings import Settings
from tests.served import Make, activate, defined, flush, maker, predict

# sigmoid(a): no, no, yes, yes
ROWS = [[-2.0, 1.0], [-0.5, None], [0.5, 0.0], [3.0, 0.5]]
Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def make(sessions: Sessions, config: Settings, tmp_path: Path) -> Make:
    await defined(sessions, "fraud")
    return maker(sessions, config, tmp_path)


@pytest.fixture
async def served(api: FastAPI, client: httpx.AsyncClient, make: Make, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Version 1 is active; nothing is flushed or joined unless a test says so."""
    await make(bias=0.0)
    await activate(client)
    await api.state.bookkeeping.close()
    api.state.bookkeeping._thread = ThreadPoolExecutor(1)
    api.state.bookkeeping._closing = False
    api.state.bookkeeping._task = None
    return api


async def post(client: httpx.AsyncClient, *items: dict[str, Any], status: int = 202) -> dict[str, Any]:
    answer = await client.post("/feedback", json={"feedback": list(items)})
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


def label(answer: dict[str, Any], row: int, value: Any, **more: Any) -> dict[str, Any]:
    return {"request_id": answer["request_id"], "row": row, "label": value} | more


async def known(sessions: Sessions, **asked: Any) -> Outcomes:
    async with sessions() as session:
        return await outcomes(session, "fraud", 1, **asked)


async def test_labels_are_joined_to_their_rows_and_counted_against_what_was_predicted(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    await flush(served)
    told = await post(client, *(label(answer, row, truth) for row, truth in enumerate(["no", "yes", "yes", "no"])))
    assert told == {"model": "fraud", "accepted": 4, "joined": 4, "duplicate": 0, "corrected": 0, "pending": 0}
    found = await known(sessions)
    assert (found.head, found.labels, found.confusion.tolist()) == ("y", ("no", "yes"), [[1, 1], [1, 1]])
    assert (await known(sessions, by="answer")).confusion.tolist() == [[1, 1], [1, 1]]
    assert (await known(sessions, slot="standby")).n == 0


async def test_the_same_label_again_changes_nothing(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    await flush(served)
    first = label(answer, 0, "yes")
    await post(client, first, first)
    told = await post(client, first)
    assert (told["joined"], told["duplicate"], told["corrected"]) == (0, 1, 0)
    assert (await known(sessions)).confusion.tolist() == [[0, 0], [1, 0]]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Feedback)) == 1


async def test_another_label_corrects_the_one_before(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    await flush(served)
    await post(client, label(answer, 0, "yes"))
    async with sessions() as session, session.begin():
        # As if it had come an hour ago: what is taken back is taken back there.
        await session.execute(update(Feedback).values(at=Feedback.at - seconds(3600)))
        await session.execute(update(FeedbackCounts).values(at=FeedbackCounts.at - seconds(3600)))
    told = await post(client, label(answer, 0, "no"), label(answer, 1, "no"), label(answer, 1, "yes"))
    assert (told["corrected"], told["duplicate"], told["joined"]) == (2, 0, 2)
    assert (await known(sessions)).confusion.tolist() == [[1, 0], [1, 0]]
    async with sessions() as session:
        counts = (await session.scalars(select(FeedbackCounts.n).order_by(FeedbackCounts.at))).all()
    assert sorted(counts) == [0, 1, 1]


async def test_feedback_may_come_before_its_answer_is_written_down(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    told = await post(client, label(answer, 2, "yes"), {"request_id": answer["request_id"], "accepted": True})
    assert (told["accepted"], told["joined"], told["pending"]) == (2, 0, 2)
    assert (await known(sessions)).n == 0
    await flush(served)
    async with asyncio.timeout(10):
        while (await known(sessions)).n == 0:  # the ticker joins it
            await asyncio.sleep(0.05)
    found = await known(sessions)
    assert (found.confusion.tolist(), found.accepted, found.rejected) == ([[0, 0], [0, 1]], 1, 0)
    # A correction of it is one, too.
    assert (await post(client, label(answer, 2, "no")))["corrected"] == 1
    assert (await known(sessions)).confusion.tolist() == [[0, 1], [0, 0]]


async def test_what_turns_out_wrong_later_is_invalid_and_says_why(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    await post(client, label(answer, 0, "maybe"), label(answer, 4, "yes"), label(answer, 1, "no"))
    await flush(served)
    await join_all(sessions)
    states = (await client.get("/feedback")).json()
    assert (states["joined"], states["invalid"], states["pending"]) == (1, 2, 0)
    async with sessions() as session:
        why = (
            await session.scalars(select(Feedback.why).where(Feedback.why.is_not(None)).order_by(Feedback.row))
        ).all()
    assert why == [
        "label is none of version 1, which knows no, yes",
        "row is beyond the answer, which has 4 rows, from 0 on",
    ]
    assert (await known(sessions)).n == 1


async def test_feedback_on_answers_that_nobody_gave_is_unknown_after_a_day_and_told_once(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    items = [{"request_id": uuid.uuid4().hex, "row": row, "label": "yes"} for row in range(50)]
    assert (await post(client, *items))["pending"] == 50
    await join_all(sessions)
    assert (await client.get("/feedback")).json()["pending"] == 50
    await age(sessions, hours=25)
    async with sessions() as session, session.begin():
        assert await give_up(session) == 50
    await post(client, {"request_id": uuid.uuid4().hex, "label": "yes"})
    await age(sessions, hours=25)
    async with sessions() as session, session.begin():
        assert await give_up(session) == 1
    async with sessions() as session:
        events = (await session.scalars(select(Event).where(Event.kind == "feedback.unknown"))).all()
    assert [event.evidence for event in events] == [{"items": 50}]
    assert (await client.get("/feedback?days=30")).json()["unknown"] == 51


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"label": "maybe"}, "feedback.1.label", "is none of version 1, which knows no, yes"),
        ({"row": 4}, "feedback.1.row", "is beyond the answer, which has 4 rows"),
        ({"head": "other"}, "feedback.1.head", "is none of version 1, which has y"),
    ],
)
async def test_a_bad_item_is_named_and_nothing_of_its_request_is_kept(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions, change: dict[str, Any], field: str, says: str
) -> None:
    answer = await predict(client, ROWS)
    await flush(served)
    refused = await post(client, label(answer, 0, "yes"), label(answer, 1, "yes") | change, status=422)
    assert refused["code"] == "invalid_feedback"
    [error] = refused["errors"]
    assert (error["field"], says in error["message"]) == (field, True)
    assert (await client.get("/feedback")).json()["joined"] == 0


NO_ITEMS: list[dict[str, Any]] = [
    {"request_id": "x", "label": 1},
    {"request_id": "0" * 32},
    {"request_id": "0" * 32, "label": 1, "accepted": True},
    {"request_id": "0" * 32, "label": None},
    {"request_id": "0" * 32, "label": [1]},
    {"request_id": "0" * 32, "label": "a\0"},
    {"request_id": "0" * 32, "label": 1, "row": -1},
    {"request_id": "0" * 32, "label": 1, "row": 2**63},
    {"request_id": "0" * 32, "label": 1, "unknown": 1},
]


async def test_an_item_that_cannot_be_is_refused(served: FastAPI, client: httpx.AsyncClient) -> None:
    for item in NO_ITEMS:
        refused = await post(client, item, status=422)
        assert refused["errors"][0]["field"].startswith("feedback.0"), item


async def test_the_answers_of_another_model_are_not_this_ones(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    await flush(served)
    await defined(sessions, "churn")
    refused = await client.post("/feedback", json={"model": "churn", "feedback": [label(answer, 0, "yes")]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["message"] == "is of an answer of fraud, not of churn"
    unnamed = await client.post("/feedback", json={"feedback": [label(answer, 0, "yes")]})
    assert unnamed.json()["code"] == "model_ambiguous"


async def test_a_label_that_was_sent_early_for_the_wrong_model_is_counted_when_it_is_sent_for_the_right_one(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS)
    await defined(sessions, "churn")
    early = {"feedback": [label(answer, 0, "no")]}
    assert (await client.post("/feedback", json=early | {"model": "churn"})).json()["pending"] == 1
    await flush(served)
    told = (await client.post("/feedback", json=early | {"model": "fraud"})).json()
    assert (told["joined"], told["duplicate"]) == (1, 0)
    assert (await known(sessions)).n == (await known(sessions, by="answer")).n == 1


async def test_accepted_and_rejected_are_counted_apart_from_labels(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answers = [await predict(client, ROWS) for _ in range(5)]
    await flush(served)
    votes = [{"request_id": a["request_id"], "accepted": place < 2} for place, a in enumerate(answers)]
    await post(client, *votes, label(answers[0], 0, "no"))
    found = await known(sessions)
    assert (found.accepted, found.rejected, found.n) == (2, 3, 1)
    await post(client, votes[0] | {"accepted": False})
    found = await known(sessions)
    assert (found.accepted, found.rejected) == (1, 4)


async def test_many_who_send_the_same_labels_at_once_are_counted_once(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answer = await predict(client, ROWS * 50)
    await flush(served)
    items = [label(answer, row, "yes") for row in range(200)]
    await asyncio.gather(*(post(client, *items[place % 3 :]) for place in range(8)))
    assert (await known(sessions)).confusion.tolist() == [[0, 0], [100, 100]]


async def test_counts_are_always_what_the_feedback_says(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    random = Random(3)
    answers = [await predict(client, ROWS) for _ in range(6)]
    told: dict[tuple[int, int], str] = {}

    async def say(some: list[dict[str, Any]]) -> None:
        for _ in range(10):
            place, row, truth = random.randrange(len(some)), random.randrange(4), random.choice(["no", "yes"])
            told[answers.index(some[place]), row] = truth
            await post(client, label(some[place], row, truth))

    await flush(served)
    await say(answers)
    answers += [await predict(client, ROWS) for _ in range(3)]
    await say(answers)  # some of it before the answers are written down
    await flush(served)
    await join_all(sessions)
    await say(answers)
    wanted = [[0, 0], [0, 0]]
    for (_, row), truth in told.items():
        wanted[truth == "yes"][row >= 2] += 1
    assert (await known(sessions)).confusion.tolist() == wanted
    assert (await known(sessions, by="answer")).confusion.tolist() == wanted


async def test_answers_are_forgotten_after_their_days_and_what_was_said_of_them_stands(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions, config: Settings
) -> None:
    answer = await predict(client, ROWS)
    await flush(served)
    await post(client, label(answer, 0, "no"))
    async with sessions() as session, session.begin():
        await session.execute(update(AnswerBlock).values(at=AnswerBlock.at - seconds(31 * 86_400)))
        await tidy(session, config)
        assert await session.scalar(select(func.count()).select_from(AnswerBlock)) == 0
    refused = await post(client, label(answer, 0, "yes"), status=422)
    assert "no longer kept" in refused["errors"][0]["message"]
    again = await post(client, label(answer, 0, "no"))
    assert (again["duplicate"], again["joined"], again["pending"]) == (1, 0, 0)
    assert (await known(sessions)).confusion.tolist() == [[1, 0], [0, 0]]


async def test_what_was_served_between_two_times_is_known(
    served: FastAPI, client: httpx.AsyncClient, sessions: Sessions
) -> None:
    await predict(client, ROWS)
    await predict(client, ROWS[:1])
    await flush(served)
    async with sessions() as session:
        now = await session.scalar(select(clock()))
        assert now is not None
        found = await served_between(session, "fraud", now - timedelta(seconds=30), now)
    assert (found.requests, found.rows) == ({(1, "active"): 2}, {(1, "active"): 5})


async def join_all(sessions: Sessions) -> None:
    """As if the next look were due."""
    async with sessions() as session, session.begin():
        await session.execute(update(Feedback).values(try_at=clock() - seconds(1)))
    async with sessions() as session, session.begin():
        await join_pending(session)


async def age(sessions: Sessions, *, hours: float) -> None:
    async with sessions() as session, session.begin():
        old = update(Feedback).where(Feedback.state == "pending").values(at=Feedback.at - seconds(hours * 3600))
        await session.execute(old)
