"""How a command fails: what it says on stderr, what it answers on stdout under --json, and its exit code."""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, Self

import click

from app.cli.output import as_json, printable


class Exit(IntEnum):
    """What a script may rely on. 1 and 2 are what every command line uses them for."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    JOB_FAILED = 3
    GATE_REFUSED = 4
    CONFLICT = 5
    NOT_FOUND = 6
    NOT_ALLOWED = 7
    TIMED_OUT = 8
    UNREACHABLE = 10
    DETACHED = 130


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.ERROR: "something went wrong that is not listed here",
    Exit.USAGE: "the command or its input is not valid",
    Exit.JOB_FAILED: "the job failed or was cancelled",
    Exit.GATE_REFUSED: "the gate refused: the verdict is not pass",
    Exit.CONFLICT: "refused as things stand, or nothing to roll back to",
    Exit.NOT_FOUND: "not found",
    Exit.NOT_ALLOWED: "not allowed: no key, or one without the role",
    Exit.TIMED_OUT: "timed out; the job runs on, or replicas still owe a receipt",
    Exit.UNREACHABLE: "the service cannot be reached or is not ready",
    Exit.DETACHED: "Ctrl-C; the job runs on",
}

BY_STATUS: Mapping[int, Exit] = {
    400: Exit.USAGE,
    401: Exit.NOT_ALLOWED,
    403: Exit.NOT_ALLOWED,
    404: Exit.NOT_FOUND,
    405: Exit.USAGE,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    413: Exit.USAGE,
    415: Exit.USAGE,
    422: Exit.USAGE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}
BY_CODE: Mapping[str, Exit] = {
    "verdict_fail": Exit.GATE_REFUSED,
    "verdict_inconclusive": Exit.GATE_REFUSED,
}


class Failure(Exception):
    """Ends a command. `document` is the answer on stdout under --json: the problem, or the job that ended badly."""

    def __init__(
        self, message: str, exit: Exit, *, remedy: str | None = None, document: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.exit, self.remedy = message, exit, remedy
        told = {"code": exit.name.lower(), "detail": message} | ({"remedy": remedy} if remedy else {})
        self.document: Mapping[str, Any] = told if document is None else document

    @classmethod
    def of_problem(cls, problem: Mapping[str, Any]) -> Self:
        """An `application/problem+json` of the service, with every reason, field and replica that it names."""
        code = str(problem.get("code", ""))
        exit = BY_CODE.get(code) or BY_STATUS.get(int(problem["status"]), Exit.ERROR)
        remedy = _as_typed(problem) or problem.get("remedy")
        message = "\n  - ".join([str(problem.get("detail") or problem.get("title")), *_particulars(problem, remedy)])
        return cls(message, exit, remedy=remedy, document=problem)

    def within(self, where: str) -> Self:
        """The same, saying first which part of the work it is about."""
        return type(self)(f"{where}: {self.message}", self.exit, remedy=self.remedy, document=self.document)

    def show(self, *, json: bool) -> None:
        if json:
            click.echo(as_json(self.document))
        lead = "" if self.exit == Exit.DETACHED else "Error: "
        click.echo(lead + printable(self.message), err=True)
        if self.remedy:
            click.echo(printable(self.remedy), err=True)


def _as_typed(problem: Mapping[str, Any]) -> str | None:
    """The way out where the command line has another one than the body of a request."""
    if problem.get("code") != "model_ambiguous":
        return None
    return f"Name one, as MODEL or with -m: {', '.join(map(str, problem.get('models', ())))}."


def _particulars(problem: Mapping[str, Any], remedy: str | None) -> Iterator[str]:
    """What the sentence of the problem does not say yet, one line each."""
    for reason in problem.get("reasons", ()):
        if reason["remedy"] != remedy:
            yield f"{reason['code']}: {reason['remedy']}"
    for error in problem.get("errors", ()):
        if "message" in error and error["message"] not in str(problem.get("detail")):
            yield f"{_where(error)}: {error['message']}"


def _where(error: Mapping[str, Any]) -> str:
    if "field" in error:
        return str(error["field"])
    column = error.get("column")
    return f"row {error.get('row')}" + (f", column {column}" if column else "")
