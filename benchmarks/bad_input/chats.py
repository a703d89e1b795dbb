"""Conversations that no language model is asked: refused before anybody looks for the model, which is absent."""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.bad_input.case import Case, only

CHAT = only("POST /v1/chat/completions")
REFUSED = frozenset({422})
BY_FIELD, AS_A_WHOLE = frozenset({"invalid"}), frozenset({"invalid_messages"})
USER = {"role": "user", "content": "@mark@"}

MESSAGES: dict[str, Any] = {
    "none": [],
    "a text": "@mark@",
    "null": None,
    "of texts": ["@mark@"],
    "without a role": [{"content": "@mark@"}],
    "without content": [{"role": "user"}],
    "of a role that nobody has": [{"role": "@mark@", "content": "x"}],
    "of a tool": [{"role": "tool", "content": "@mark@", "tool_call_id": "x"}],
    "with a name": [USER | {"name": "@mark@"}],
    "with a call of a tool": [USER, {"role": "assistant", "content": "x", "tool_calls": [{"id": "@mark@"}]}],
    "of null": [{"role": "user", "content": None}],
    "of a number": [{"role": "user", "content": 1}],
    "with a picture": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "@mark@"}}]}],
    "with an empty part": [{"role": "user", "content": [{}]}],
}
WHOLE: dict[str, Any] = {
    "that end with the model": [USER, {"role": "assistant", "content": "@mark@"}],
    "with a system that comes late": [USER, {"role": "system", "content": "@mark@"}, USER],
}
FIELDS: dict[str, Any] = {
    "two answers": {"n": 2},
    "no answer": {"n": 0},
    "tools": {"tools": [{"type": "function", "function": {"name": "@mark@"}}]},
    "a choice of tools": {"tool_choice": "@mark@"},
    "functions": {"functions": [{"name": "f"}]},
    "a bias": {"logit_bias": {"1": 1}},
    "audio": {"modalities": ["@mark@"]},
    "metadata": {"metadata": {"a": "@mark@"}},
    "a temperature below zero": {"temperature": -0.1},
    "a temperature of fever": {"temperature": 2.1},
    "a share of nothing": {"top_p": 0},
    "no tokens": {"max_tokens": 0},
    "tokens as text": {"max_completion_tokens": "@mark@"},
    "tokens beyond every context": {"max_tokens": 10**9},
    "an empty stop": {"stop": [""]},
    "a stop that is a number": {"stop": [1]},
    "a hundred stops": {"stop": ["x"] * 100},
    "a seed below zero": {"seed": -1},
    "a seed beyond 31 bits": {"seed": 2**31},
    "a penalty beyond two": {"presence_penalty": 2.5},
    "more logprobs than there are": {"top_logprobs": 21},
    "a stream that is neither": {"stream": "@mark@"},
    "an option of a stream": {"stream_options": {"nobody_knows_this": "@mark@"}},
    "a form of answers": {"response_format": {"type": "@mark@"}},
    "a schema without a name": {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
    "a schema that is a text": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": ""}}},
    "a user that is a number": {"user": 1},
    "a model that is a number": {"model": 1},
}  # fmt: skip


def cases() -> Iterator[Case]:
    for name, told in MESSAGES.items():
        yield _chat(f"messages {name}", {"messages": told}, BY_FIELD)
    for name, told in WHOLE.items():
        yield _chat(f"messages {name}", {"messages": told}, AS_A_WHOLE)
    for name, fields in FIELDS.items():
        yield _chat(f"a chat with {name}", fields, BY_FIELD)
    for name, text in {"an escaped NUL": "@mark@\\u0000", "half of a pair": "@mark@\\ud800"}.items():
        body = '{"model": "absent", "messages": [{"role": "user", "content": "' + text + '"}]}'
        yield Case(f"a chat of {name}", REFUSED, BY_FIELD, CHAT, body=body)


def _chat(name: str, fields: dict[str, Any], codes: frozenset[str]) -> Case:
    return Case(name, REFUSED, codes, CHAT, body=json.dumps({"model": "absent", "messages": [USER]} | fields))
