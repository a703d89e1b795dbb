"""Who mistyped a name is told what a name looks like, and reads no regular expression."""

import re
from ast import literal_eval
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import field_errors
from app.patterns import UNKNOWN, WORDS, in_words
from app.schemas import ModelName
from tests.factories import define

APP = Path(__file__).parent.parent / "app"
WRITTEN = re.compile(r'\bpattern=(r?"[^"]*")')


def patterns() -> set[str]:
    sources = (path.read_text() for path in APP.rglob("*.py"))
    return {str(literal_eval(literal)) for source in sources for literal in WRITTEN.findall(source)}


def test_every_pattern_of_a_schema_has_its_words_and_none_is_left_over() -> None:
    assert patterns() == WORDS.keys()
    assert not any(sign in words for words in WORDS.values() for sign in ("^", "$", "{", "["))


@pytest.mark.parametrize("pattern", WORDS)
def test_the_words_stand_where_pydantic_would_show_the_pattern(pattern: str) -> None:
    assert in_words(f"monitors.x: String should match pattern '{pattern}'") == f"monitors.x: {WORDS[pattern]}"


def test_a_pattern_that_nobody_put_into_words_is_not_shown_either() -> None:
    assert in_words("String should match pattern '^x$'") == UNKNOWN


def test_a_name_that_is_none_is_told_by_its_field() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(dict[ModelName, int]).validate_python({"Fraud": 1})
    [error] = field_errors(raised.value.errors())
    assert error == {"field": "Fraud", "message": WORDS[r"^[a-z][a-z0-9_-]{0,62}$"]}


@pytest.fixture
async def fraud(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session, session.begin():
        await define(session, "fraud")


HOOK = {"name": "pager", "url": "https://hooks.example.com/"}
ITEM = {"request_id": "0" * 32, "label": 1}
DEFINED = {"type": "classifier", "data": {"source": "samples", "label": "y"}}


MISSPELT: list[tuple[str, dict[str, Any] | None]] = [
    ("GET /incidents?model=Fraud", None),
    ("GET /models/Fraud", None),
    ("GET /events?kind=job", None),
    ("GET /monitoring/checks?model=fraud&monitor=a-b", None),
    ("GET /data/versions?after=x", None),
    ("GET /notifications/targets/A", None),
    ("POST /notifications/targets", HOOK | {"name": "A b"}),
    ("POST /notifications/targets", HOOK | {"url": "nowhere"}),
    ("POST /notifications/targets", HOOK | {"headers": {"X Y": "a"}}),
    ("POST /notifications/targets", HOOK | {"headers": {"X": " a"}}),
    ("PUT /notifications/rules/A", {"target": "pager"}),
    ("PUT /notifications/rules/a", {"target": "pager", "kinds": ["job"]}),
    ("POST /feedback", {"model": "fraud", "feedback": [ITEM | {"request_id": "x"}]}),
    ("POST /feedback", {"model": "fraud", "feedback": [ITEM | {"head": ""}]}),
    ("POST /metrics/observations", {"model": "fraud", "observations": [{"name": "1", "value": 1}]}),
    ("POST /training/trigger", {"model": "fraud", "data_version": "newest"}),
    ("POST /training/trigger", {"model": "fraud", "reason": "\0"}),
    ("PUT /models/fraud", DEFINED | {"type": "A B"}),
    ("PUT /models/fraud", DEFINED | {"monitors": {"A B": {"kind": "drift"}}}),
    ("PUT /models/fraud", DEFINED | {"monitors": {"a": {"kind": "drift", "versions": {"x": {}}}}}),
    ("PUT /models/fraud", DEFINED | {"label": {"url": "http://x", "model": "m", "prompt": "p", "key": "secret"}}),
]


async def test_what_is_spelled_wrong_is_answered_in_words(client: httpx.AsyncClient, fraud: None) -> None:
    for call, body in MISSPELT:
        method, path = call.split()
        answer = await client.request(method, path, json=body)
        assert answer.status_code == 422, call
        messages = [error["message"] for error in answer.json()["errors"]]
        assert any(words in message for message in messages for words in WORDS.values()), messages
        assert "pattern" not in answer.text
