"""What no part of a language model's definition shows by itself is refused when it is applied, by its field and with
the way out."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.definitions.language_models import check
from app.definitions.schemas import Definition
from app.definitions.tables import ModelType
from app.errors import Invalid, field_errors
from workers import pipeline

PAIRS: dict[str, Any] = {"source": "samples", "chat": {"prompt": "q", "chosen": "good", "rejected": "bad"}}
FEEDBACK: dict[str, Any] = {"data": {"source": "feedback"}}
TYPE, LOGGED = {"type": "llm"}, {"logging": {"sample": 1}}


def of(data: dict[str, Any] | None = None, **changes: Any) -> Definition:
    chats = {"source": "samples", "chat": {"prompt": "q", "completion": "a"}}
    return Definition.model_validate(TYPE | {"data": data or chats} | changes)


def preferring(how: dict[str, Any] | None, preference: dict[str, Any] | None = None, **training: Any) -> Definition:
    told = {} if how is None else {"preference": how}
    return of(training=told | training, preference=preference, **LOGGED)


@pytest.mark.parametrize(
    ("definition", "field", "way_out"),
    [
        (of({"source": "samples", "chat": {"prompt": "q"}}), "data.chat.completion", "data.chat.messages"),
        (of(PAIRS), "data.chat.completion", "preference.data"),
        (of({"source": "samples", "label": "y"}), "data.chat", "data.chat.messages"),
        (preferring({"method": "kto"}), "preference.data", "leave training.preference out"),
        (of(training={"stages": ["export", "publish"]}, signoff={"count": 1}), "signoff", "Add evaluate"),
        (preferring({"method": "grpo"}, stages=["prepare", "preference"]), "preference.data", "Name their rows"),
        (preferring({"method": "dpo"}, FEEDBACK), "training.preference.method", "training.preference.method: kto"),
        (preferring(None, FEEDBACK), "training.preference.method", "training.preference.method: kto"),
        (
            preferring(None, {"data": {"source": "samples", "chat": {"prompt": "q"}}}),
            "training.preference.method",
            "another method: grpo, rloo",
        ),
    ],
)
def test_what_could_only_fail_later_is_refused_by_its_field_with_the_way_out(
    definition: Definition, field: str, way_out: str
) -> None:
    with pytest.raises(Invalid) as refused:
        check(definition, definition.training, definition.strategy)
    assert (refused.value.details["errors"][0]["field"], way_out in str(refused.value.remedy)) == (field, True)


@pytest.mark.parametrize(
    "definition",
    [
        of(),
        of({"source": "samples", "chat": {"messages": "m"}}),
        of({"source": "feedback"}, **LOGGED),
        preferring(None, {"data": PAIRS}),
        preferring({"method": "kto"}, FEEDBACK),
        preferring({"method": "kto"}, {"data": PAIRS}),
        preferring({"method": "grpo"}, {"data": {"source": "samples", "chat": {"prompt": "q"}}}),
        preferring({"method": "kto"}, stages=["prepare", "sft"]),
        of(strategy="pull", training={"preference": {"method": "kto"}}),
    ],
)
def test_what_can_be_trained_is_taken(definition: Definition) -> None:
    check(definition, definition.training, definition.strategy)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, ("data", "name what is learnt: the column to predict in label, or conversations in chat")),
        ({"chat": {"prompt": "q", "messages": "m"}}, ("data.chat", "name either messages, or prompt")),
        ({"chat": {"promt": "q"}}, ("data.chat.promt", "Extra inputs are not permitted")),
    ],
)
def test_one_mistake_in_the_data_is_one_error_whatever_the_gate_asks_for(
    data: dict[str, Any], error: tuple[str, str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        of({"source": "samples"} | data, gate={"criteria": {"exact_match": {"min": 0.1}}})
    [told] = [(e["field"], e["message"]) for e in field_errors(refused.value.errors())]
    assert told == error


async def test_what_is_applied_is_held_against_both_and_a_pull_names_no_base(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    schema = pipeline.find("llm").params.model_json_schema()
    values = {"name": "llm", "summary": "", "queue": "cpu", "params_schema": schema, "stages": [], "pulls": True}
    async with sessions() as session, session.begin():
        await session.execute(insert(ModelType).values(values))
    chats = {"source": "samples", "chat": {"prompt": "q", "completion": "a"}}
    pulled = {"strategy": "pull", "training": {"serve": {"by": "ollama", "model": "llama3.2"}}}
    told = {
        "pulled": TYPE | {"data": chats} | pulled,
        "unnamed": TYPE | {"data": chats, "strategy": "pull"},
        "trained": TYPE | {"data": chats} | pulled | {"strategy": "full"},
        "unanswered": TYPE | {"data": {"source": "samples", "chat": {"prompt": "q"}}} | pulled,
    }
    answers = {name: await client.put(f"/models/{name}", json=body) for name, body in told.items()}
    assert answers.pop("pulled").status_code == 200
    assert {name: answer.json()["errors"][0]["field"] for name, answer in answers.items()} == {
        "unnamed": "training.serve",
        "trained": "training.base_model",
        "unanswered": "data.chat.completion",
    }
