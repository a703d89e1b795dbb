"""Instances of `/predict/batch` → conversations, for a version that answers with text."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.errors import Invalid
from app.runtimes.chat import Message, fault

NAMED_FAULTS = 10


def conversations_of(instances: Sequence[Any]) -> list[list[Message]]:
    """Each a prompt as text, {"prompt": text} or {"messages": [{role, content}]}.

    Raises Invalid `invalid_instances`, with `errors=[{row, column, message}]` for the first ten faults and `more`.
    """
    if not instances:
        raise Invalid("There are no instances to answer.", code="invalid_instances", errors=[], more=0)
    faults = [{"row": row, "column": column, "message": told} for row, column, told in _faults(instances)]
    if faults:
        first = faults[0]
        raise Invalid(
            f"Row {first['row']}: {first['message']}.",
            code="invalid_instances",
            remedy='An instance is a text, {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}.',
            errors=faults[:NAMED_FAULTS],
            more=max(0, len(faults) - NAMED_FAULTS),
        )
    return [_messages(instance) for instance in instances]


def _messages(instance: Any) -> Any:
    if isinstance(instance, str):
        return [{"role": "user", "content": instance}]
    return instance["messages"] if "messages" in instance else _messages(instance["prompt"])


def _faults(instances: Sequence[Any]) -> Iterator[tuple[int, str | None, str]]:
    for row, instance in enumerate(instances):
        if isinstance(instance, dict) and instance.keys() not in ({"prompt"}, {"messages"}):
            yield row, None, "an object has either prompt or messages, and nothing else"
        elif isinstance(instance, dict) and not isinstance(instance.get("prompt", ""), str):
            yield row, "prompt", "prompt must be text"
        elif not isinstance(instance, dict | str):
            yield row, None, "an instance is a text or an object"
        elif wrong := fault(_messages(instance)):
            yield row, "messages" if isinstance(instance, dict) and "messages" in instance else None, wrong
