"""What the schemas of every room share."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
# Postgres keeps no NUL in a text.
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000, pattern=r"^[^\x00]*$")]
# What a bigint holds: ids, numbers of versions, cursors.
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Row = TypeVar("Row")


def beyond_64_bits(value: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The paths of numbers that come back from Postgres as whole ones which nobody else reads: 1e20 is one too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from beyond_64_bits(inner, *path, str(name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from beyond_64_bits(inner, *path, str(place))
    elif isinstance(value, int | float) and abs(value) >= 2**63:
        yield path


def _can_be_kept(free: dict[str, Any]) -> dict[str, Any]:
    """What Postgres keeps as it is. Raises ValueError for what Python reads as JSON and no database does."""
    try:
        orjson.dumps(free)  # half of a surrogate pair, a whole number beyond 64 bits, more than 254 levels
        kept = json.dumps(free, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("a text, a number or the depth of it is beyond what can be kept") from None
    if next(beyond_64_bits(free), None) is not None:
        raise ValueError("a number in it is beyond 64 bits")
    if "\\u0000" in kept:
        raise ValueError("a text in it has a NUL character")
    return free


# JSON of which only the caller knows what it means.
FreeJson = Annotated[dict[str, Any], AfterValidator(_can_be_kept)]


NUMBER = re.compile(r"\s*[+-]?[\d_.]+(e[+-]?\d+)?\s*", re.IGNORECASE)


def _is_written_out(value: Any) -> Any:
    if isinstance(value, int | float) or (isinstance(value, str) and NUMBER.fullmatch(value)):
        raise ValueError("a time is written out, such as 2026-11-21T03:00:00Z")
    return value


# A number would be read as seconds or as milliseconds since 1970, by how large it is.
Time = Annotated[datetime, BeforeValidator(_is_written_out)]


class Strict(BaseModel):
    """Refuses fields that it does not know, and NaN and infinity in any number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Page(BaseModel, Generic[Row]):
    """One page of a list. `next` goes into `?after=` of the next call; null when `has_more` is false."""

    data: list[Row]
    has_more: bool
    next: str | None
