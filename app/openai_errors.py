"""Errors as OpenAI's clients read them: below `/v1/` every problem document also has their `error`.

Their exceptions go by the status alone; message, code and param are what they show.
"""

from collections.abc import Mapping
from typing import Any

PREFIX = "/v1/"
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def with_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    return {**problem, "error": error_of(problem)}


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """{message, type, param, code}: `param` is the first field that is wrong."""
    status, errors = problem["status"], problem.get("errors") or [{}]
    usual = "server_error" if status >= 500 else "invalid_request_error"
    told = [problem["detail"], *(f"{e['field']}: {e['message']}." for e in errors if "field" in e)]
    return {
        "message": " ".join([*told, problem.get("remedy") or ""]).strip(),
        "type": TYPES.get(status, usual),
        "param": errors[0].get("field"),
        "code": problem["code"],
    }
