"""What a chat request may say: a fault is told by the field as the caller wrote it, and what means nothing is taken."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from app.errors import NotFound, Refused, field_errors
from app.serving.chat_schemas import ChatRequest
from app.serving.target import slots_of, version_in

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
SCHEMA: dict[str, Any] = {"name": "city", "schema": {"enum": ["Oslo"]}}


def faults(body: dict[str, Any]) -> list[tuple[str, str]]:
    """As the API tells them."""
    with pytest.raises(ValidationError) as refused:
        ChatRequest.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()]
    return [(told["field"], told["message"]) for told in field_errors(errors, body)]


@pytest.mark.parametrize(
    ("told", "field", "message"),
    [
        ({"top_logprobs": 2}, "top_logprobs", "goes with logprobs: true"),
        ({"top_logprobs": 2, "logprobs": False}, "top_logprobs", "goes with logprobs: true"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing: type json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
         "response_format.json_schema.schema", "Field required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "Input should be a valid string"),
        ({"messages": [{"role": "user", "content": {"text": "?"}}]}, "messages.0.content", "Input should be a valid"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "messages.0.content", "does not fit"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "Field required"),
        ({"stop": 5}, "stop", "Input should be a valid string"),
        ({"stop": ["a"] * 17}, "stop", "Input should be a valid string"),
        ({"tools": [{"type": "function"}]}, "tools", "is not supported here; leave it out"),
        ({"teperature": 1}, "teperature", "Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_a_fault_is_told_by_the_field_as_the_caller_wrote_it(told: dict[str, Any], field: str, message: str) -> None:
    found = faults(ASKED | told)
    assert (found[0][0], found[0][1].startswith(message) or message == "does not fit") == (field, True)
    assert all("constrained" not in name and "?" not in name and "list[" not in name for name, _ in found)


def test_a_part_of_a_message_is_told_by_its_place() -> None:
    content = [{"type": "text", "text": "?"}, {"type": "image_url"}]
    found = [field for field, _ in faults({"messages": [{"role": "user", "content": content}]})]
    assert found == ["messages.0.content", "messages.0.content.1.type", "messages.0.content.1.text"]


@pytest.mark.parametrize(
    "told",
    [
        {"tools": [], "functions": []},
        {"tools": None},
        {"top_logprobs": 2, "logprobs": True},
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_what_means_nothing_or_is_whole_is_taken(told: dict[str, Any]) -> None:
    ChatRequest.model_validate(ASKED | told)


async def test_openais_error_names_the_field_and_an_unknown_model_is_none(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/chat/completions", json=ASKED | {"stop": 5})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "stop")
    unknown = await client.get("/v1/models/absent")
    error = unknown.json()["error"]
    assert (unknown.status_code, error["code"], error["type"]) == (404, "model_not_found", "invalid_request_error")


def test_an_empty_slot_and_a_name_that_nobody_serves_are_told_with_what_fills_and_what_is_served() -> None:
    slots: Any = SimpleNamespace(model="qa", active=object(), standby=None)
    with pytest.raises(Refused) as empty:
        version_in(slots, "standby")
    assert "refit versions stage NUMBER --model qa" in str(empty.value.remedy)
    replica: Any = SimpleNamespace(slots={"qa": slots, "new": SimpleNamespace(active=None)}, unloaded={})
    with pytest.raises(NotFound) as unknown:
        slots_of(replica, "absent")
    assert unknown.value.remedy == "Served are: qa."
