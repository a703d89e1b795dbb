"""What can go wrong, each with its HTTP status and a stable code. `app/http.py` tells it to callers (RFC 9457)."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from app.patterns import in_words


class RefitError(Exception):
    """A failure with a status, a stable code, a sentence for people, and the way out.

    `details` become members of the problem document: `errors=[{field, message}]`, `reasons=[…]`, `missing=[…]`.
    """

    status = 500
    code = "internal"

    # Seconds after which whoever asks again may be answered.
    retry_after: int | None = None

    def __init__(self, message: str, *, code: str | None = None, remedy: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.remedy = remedy
        self.details = details

    def problem(self) -> dict[str, Any]:
        known = {
            "type": f"urn:refit:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.message,
        }
        return known | ({"remedy": self.remedy} if self.remedy else {}) | self.details


class Invalid(RefitError):
    """The request says something that cannot be. 422."""

    status, code = 422, "invalid"


class NotFound(RefitError):
    status, code = 404, "not_found"


class Refused(RefitError):
    """The request is well-formed and the state of things forbids it. 409, with every reason named."""

    status, code = 409, "refused"


class Stale(RefitError):
    """The caller acted on a state that has changed since (`If-Match`, `expected_active`). 412."""

    status, code = 412, "stale"


class Unauthenticated(RefitError):
    status, code = 401, "unauthenticated"


class Forbidden(RefitError):
    status, code = 403, "forbidden"


class TooLarge(RefitError):
    status, code = 413, "too_large"


class UnsupportedMediaType(RefitError):
    """The body is of a kind that this route does not read. 415."""

    status, code = 415, "unsupported_media_type"


class Unavailable(RefitError):
    status, code = 503, "unavailable"


# Of thousands of faults so many are named; a name is told where it looks like one that somebody may have mistyped.
MOST_ERRORS = 20
# What stands in pydantic's path beside the caller's own words: where it was sent, and that a name is meant.
UNTOLD = ("body", "[key]")
NAME = re.compile(r"[\w .@-]{1,100}")


def told_name(name: object) -> str:
    """`name` as an error may say it: a caller's own field or column, unless that could be anything."""
    return str(name) if NAME.fullmatch(str(name)) else "?"


def field_errors(errors: Sequence[Any], body: Any = None) -> list[dict[str, str]]:
    """Pydantic's errors as `{field, message}`: the path in the body, and what was expected. Never the input.

    With the `body` at hand, only what stands in it is told of a path, and not the form that it was held against.
    """
    return [
        {
            "field": ".".join(told_name(part) for part in _path(e, body) if part not in UNTOLD) or "body",
            "message": in_words(e["msg"]),
        }
        for e in errors[:MOST_ERRORS]
    ]


def _path(error: Any, body: Any) -> list[str | int]:
    """Of what may be one of several forms pydantic's path names each form, as in `stop.constrained-str`."""
    first, *rest = error["loc"] or ("",)
    if first != "body" or not isinstance(body, dict):
        return [first, *rest]
    told: list[str | int] = []
    here: Any = body
    for place, part in enumerate(rest):
        is_there = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        is_lacking = isinstance(here, dict) and place == len(rest) - 1 and error["type"] in ("missing", "value_error")
        if is_there or is_lacking or part in UNTOLD:
            told.append(part)
        if is_there:
            here = here[part] if isinstance(here, dict) or part < len(here) else None
    return told
