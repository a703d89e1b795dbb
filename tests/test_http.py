"""What any route answers to what it cannot take: never a 500, and never the caller's own words."""

import re
from itertools import product
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.record import THINGS
from tests.factories import define

IDS = ["0", "-1", "9223372036854775808", "99999999999999999999999999", "1.5", "x", "%00", "..%2f..", "é", "1" * 5_000]
BODIES: list[Any] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"1",
    b'"secret-words"',
    b'{"unknown": "secret-words"}',
    b'{"reason": NaN}',
    b'{"reason": "\\u0000"}',
    b'{"model": "\\u0000", "reason": "x"}',
    b'{"reason": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    b"\xff\xfe{\x00}\x00",
    b'{"expected_active": 99999999999999999999, "reason": "x"}',
    b'{"version": 99999999999999999999, "reason": "x"}',
    b'{"severity": "P2", "title": "x", "evidence": {"a": "\\u0000"}}',
    b'{"status": "healthy", "source": "x", "details": {"a": "\\u0000"}}',
    b'{"rows": [{"id": 1, "y": 1, "a": "\\u0000"}]}',
    b'{"name": "\\u0000", "roles": ["viewer"]}',
    b'{"type": "classifier", "description": "\\u0000", "data": {"source": "samples", "label": "y"}}',
    b'{"type": "classifier", "description": "\\ud800", "data": {"source": "samples", "label": "y"}}',
    b'{"type": "classifier", "data": {"source": "file", "path": "/a\\u0000b.csv", "label": "y"}}',
]


@pytest.fixture
async def fraud(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")


def routes(api: FastAPI) -> list[tuple[str, str]]:
    paths = api.openapi()["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations]


async def test_no_route_answers_500_to_an_id_or_a_name_that_cannot_be(
    api: FastAPI, client: httpx.AsyncClient, fraud: None
) -> None:
    for method, path in routes(api):
        for bad in IDS if "{" in path else []:
            answer = await client.request(method, re.sub(r"{\w+}", bad, path), json={})
            assert answer.status_code < 500, f"{method} {path} with {bad[:30]}: {answer.text}"


async def test_no_route_answers_500_to_a_body_that_cannot_be_or_tells_it_back(
    api: FastAPI, client: httpx.AsyncClient, fraud: None
) -> None:
    for method, path in routes(api):
        for body in BODIES if method != "GET" else []:
            answer = await client.request(
                method, re.sub(r"{\w+}", "fraud" if path.startswith("/models") else "1", path), content=body
            )
            assert answer.status_code < 500 or answer.status_code == 503, (
                f"{method} {path}: {body[:60]!r} {answer.text}"
            )
            assert "secret-words" not in answer.text.replace('"field":"secret-words"', ""), f"{method} {path}"


QUERIES: list[str] = [
    "after=99999999999999999999",
    "after=-1",
    "limit=0",
    "limit=99999",
    "model=%00",
    "job_id=99999999999999999999",
    "older=1&newer=99999999999999999999",
    "at=yesterday",
    "kind=%00",
    "wait=nan",
    "revision=99999999999999999999",
]


async def test_no_route_answers_500_to_a_query_that_cannot_be(
    api: FastAPI, client: httpx.AsyncClient, fraud: None
) -> None:
    for query in QUERIES:
        for method, path in routes(api):
            if method == "GET" and "{" not in path:
                answer = await client.get(f"{path}?{query}")
                assert answer.status_code < 500, f"{path}?{query}: {answer.text}"


NAMES = ("If-Match", "If-None-Match", "Last-Event-ID", "Idempotency-Key")
VALUES = ("", "x", '"', "9" * 30, "é", '"1/"')


async def test_no_route_answers_500_to_a_header_that_cannot_be(client: httpx.AsyncClient, fraud: None) -> None:
    # All of the stream before any trigger: of a job that there is, it would go on until the job ends.
    calls = [
        ("GET", "/training/jobs/1/events"),
        ("GET", "/model/slots"),
        ("POST", "/model/reload"),
        ("POST", "/training/trigger"),
    ]
    for (method, path), name, value in product(calls, NAMES, VALUES):
        headers = {name.encode(): value.encode()}
        body = {"params": {"epochs": 1}} if path.endswith("trigger") else None
        answer = await client.request(method, path, headers=headers, json=body)
        assert answer.status_code < 500, f"{method} {path} {name}: {value}: {answer.text}"


LISTS: list[str] = [
    "/monitoring/monitors",
    "/monitoring/watches",
    "/monitoring/checks",
    "/incidents",
    "/events",
    "/notifications/deliveries",
]


async def test_of_a_model_that_there_is_not_no_list_is_empty(client: httpx.AsyncClient, fraud: None) -> None:
    for path in LISTS:
        assert (await client.get(path, params={"model": "fraud"})).status_code == 200
        answer = await client.get(path, params={"model": "nope"})
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


async def test_events_of_a_kind_that_never_happens_are_refused_with_those_that_do(client: httpx.AsyncClient) -> None:
    answer = await client.get("/events", params={"kind": "nope.nope"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert all(thing in answer.json()["errors"][0]["message"] for thing in THINGS)
    assert (await client.get("/events", params={"kind": "job.never"})).json()["data"] == []
