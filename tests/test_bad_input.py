"""The corpus of bad input holds what it says, its judge sees faults, and Refit refuses what the corpus once found."""

from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.roles import Role
from app.main import create_app
from app.settings import Settings
from benchmarks.bad_input.__main__ import LEAST_CASES, corpus
from benchmarks.bad_input.case import CLOSED, Case, message, takes_body
from benchmarks.bad_input.judge import PROBLEM, judge
from benchmarks.bad_input.roles import METHODS, NO_KEY, cells
from benchmarks.bad_input.routes import ROUTES, Json, undeclared
from benchmarks.bad_input.wire import Answer
from tests.factories import define

KEYS = {role.value: f"refit_{role}_{'5' * 64}" for role in Role}
HOLD = next(route for route in ROUTES if route.path == "/model/hold")


@pytest.fixture(scope="module")
def document() -> Json:
    return create_app(Settings(database_url="postgresql://nowhere")).openapi()


@pytest.fixture(scope="module")
def cases(document: Json) -> list[Case]:
    return corpus(document)


def test_every_route_of_the_application_is_declared_with_its_role(document: Json) -> None:
    assert undeclared(document) == []


def test_a_route_that_is_not_declared_is_named(document: Json) -> None:
    more = {"paths": document["paths"] | {"/new": {"post": {}}}}
    assert undeclared(more) == ["POST /new is not declared here"]


def test_the_corpus_has_its_cases_each_with_a_name_of_its_own_and_a_route(cases: list[Case]) -> None:
    asked = Counter((case.name, route) for case in cases for route in map(str, filter(case.on, ROUTES)))
    assert len(cases) >= LEAST_CASES
    assert max(asked.values()) == 1, asked.most_common(1)
    assert [case.name for case in cases if not any(map(case.on, ROUTES))] == []


def test_every_case_is_refused_with_a_code_or_answered_as_without_it(cases: list[Case]) -> None:
    told = [case for case in cases if case.statuses is not None]
    assert all(status in {CLOSED, 200} or 400 <= status < 500 for case in told for status in case.statuses or ())
    assert all(len(case.statuses or ()) <= 2 for case in told)


def test_the_word_of_a_case_is_in_its_request_and_never_comes_back_unseen() -> None:
    case = Case("a word", frozenset({422}), on=takes_body, body='{"@field@": "@mark@"}')
    asked = message(case, HOLD, KEYS)
    word = asked.tells[0]
    assert b'{"model": "' + word + b'"}' in asked.sent
    echo = Answer(
        422, (("Content-Type", PROBLEM),), b'{"status": 422, "detail": "not ' + word + b'", "code": "invalid"}'
    )
    assert [fault.kind for fault in judge(case, HOLD, asked, echo)] == ["echoed"]


def refused(body: bytes, type: str = PROBLEM, *headers: tuple[str, str]) -> Answer:
    return Answer(422, (("Content-Type", type), *headers), body)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(500), "5xx"),
        (Answer(200), "wrong status"),
        (Answer(CLOSED, fault="reset"), "connection"),
        (refused(b"no", "text/plain"), "not a problem document"),
        (refused(b'{"status": 422, "detail": "no"}'), "not a problem document"),
        (refused(b'{"status": 422, "detail": "", "code": "x"}'), "not a problem document"),
        (refused(b'{"status": 422, "detail": "no", "code": "x"}', PROBLEM, ("X-Key", "5" * 64)), "echoed"),
    ],
)
def test_the_judge_names_what_is_wrong(answer: Answer, kind: str) -> None:
    case = Case("anything", frozenset({422}))
    assert [fault.kind for fault in judge(case, HOLD, message(case, HOLD, KEYS), answer)] == [kind]


def test_the_table_has_every_path_with_every_method_and_every_caller() -> None:
    table = Counter((cell.route.path, cell.route.method, cell.case.name) for cell in cells())
    callers = len(NO_KEY) + len(Role)
    assert set(table.values()) == {1}
    assert len(table) == len({route.path for route in ROUTES}) * len(METHODS) * callers


@pytest.mark.parametrize(
    ("route", "caller", "status"),
    [
        ("POST /model/reload", "operator", 404),
        ("POST /model/reload", "trainer", 403),
        ("POST /model/reload", "no key", 401),
        ("PATCH /model/reload", "admin", 405),
        ("GET /keys", "operator", 403),
        ("GET /health/live", "a revoked key", 200),
        ("HEAD /health/live", "no key", 200),
        ("HEAD /models", "admin", 405),
    ],
)
def test_a_cell_of_the_table_is_what_the_roles_say(route: str, caller: str, status: int) -> None:
    [cell] = [cell for cell in cells() if (str(cell.route), cell.case.name.split(" by ")[1]) == (route, caller)]
    assert cell.case.statuses == frozenset({status})


FREE: list[Any] = [b"918273645546372819918273645546372819", b"NaN", b'"\\ud800"', b'"\\u0000"', b"[" * 300 + b"]" * 300]


@pytest.fixture
async def fraud(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")


@pytest.mark.parametrize("value", FREE)
async def test_free_json_that_nobody_can_keep_is_refused_by_its_field(
    client: httpx.AsyncClient, fraud: None, value: bytes
) -> None:
    json = {"Content-Type": "application/json"}
    for path, body in {
        "/training/trigger": b'{"model": "fraud", "params": {"x": @}}',
        "/incidents": b'{"severity": "P4", "title": "none", "evidence": {"x": @}}',
        "/data/quality": b'{"status": "healthy", "source": "none", "details": {"x": @}}',
    }.items():
        answer = await client.post(path, content=body.replace(b"@", value), headers=json)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), f"{path}: {answer.text}"


async def test_a_parameter_that_does_not_fit_is_named_and_its_value_is_not(
    client: httpx.AsyncClient, fraud: None
) -> None:
    answer = await client.post("/training/trigger", json={"model": "fraud", "params": {"epochs": "secret-words"}})
    assert answer.json()["errors"] == [{"field": "training.epochs", "message": 'does not fit: type "integer"'}]
    assert "secret-words" not in answer.text


async def test_a_key_with_something_before_it_is_no_key(
    api: FastAPI, client: httpx.AsyncClient, admin_key: str
) -> None:
    for key in (f"x{admin_key}", f"refit_{admin_key}", admin_key.removeprefix("refit_")):
        answer = await client.get("/models", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 401, key
