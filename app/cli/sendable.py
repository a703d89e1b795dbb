"""What JSON cannot hold, and where in a value it stands: YAML, files and command lines know more than JSON does."""

import json
import math
from collections.abc import Iterator
from typing import Any


def flaw(value: Any) -> str | None:
    """The first part of `value` that cannot be sent, by its path: `gate.f1.delta is nan`. None where all of it can."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError:
        return "it is nested too deep"
    except (TypeError, ValueError) as error:
        return next(_flaws(value, (), ()), str(error))
    return None


def _flaws(value: Any, path: tuple[str, ...], within: tuple[int, ...]) -> Iterator[str]:
    if id(value) in within:
        yield f"{_named(path)} holds itself"
    elif isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            if why := _why_not(name):
                yield f"a name in {_named(path)} {why}"
            yield from _flaws(part, (*path, str(name)), (*within, id(value)))
    elif why := _why_not(value):
        yield f"{_named(path)} {why}"


def _why_not(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, and JSON has no such number"
    if isinstance(value, str):
        return None if _is_text(value) else "is no text in UTF-8"
    if value is None or isinstance(value, int | float):
        return None
    return f"is a {type(value).__name__}, which JSON does not know; write it in quotes"


def _is_text(value: str) -> bool:
    """A byte of a command line that is no UTF-8 is half of a surrogate pair in Python."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(path: tuple[str, ...]) -> str:
    return ".".join(path).encode("ascii", "backslashreplace").decode() or "it"
