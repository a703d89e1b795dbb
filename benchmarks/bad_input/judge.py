"""What is wrong with an answer. An empty list is what the command is after."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.bad_input.case import CLOSED, Case, Message
from benchmarks.bad_input.routes import Route
from benchmarks.bad_input.wire import Answer

Kind = Literal["5xx", "wrong status", "echoed", "not a problem document", "connection"]
PROBLEM = "application/problem+json"
# A refusal is for people to read: thousands of faults are counted, not listed.
LONGEST_PROBLEM = 16_384


@dataclass(frozen=True)
class Fault:
    kind: Kind
    what: str


def judge(case: Case, route: Route, asked: Message, answer: Answer) -> Iterator[Fault]:
    """Every fault of the answer, each with the sentence that names it."""
    where = f"{case.name} → {route}"
    expected = case.statuses or frozenset({route.status})
    codes = case.codes if case.statuses else frozenset({route.code} if route.code else ())
    if answer.status >= 500:
        yield Fault("5xx", f"{where}: {answer.status} {answer.body[:200]!r}")
    elif answer.fault and not (CLOSED in expected and answer.status == CLOSED):
        yield Fault("connection", f"{where}: {answer.fault}")
    elif answer.status not in expected:
        yield Fault("wrong status", f"{where}: {answer.status}, not {sorted(expected)}: {answer.body[:200]!r}")
    elif answer.status >= 400 and asked.method != "HEAD" and (flaw := _flaw(case, answer, codes)):
        yield Fault("not a problem document", f"{where}: {flaw}: {answer.body[:200]!r}")
    if found := [told for told in asked.tells if told.lower() in _everything(answer)]:
        yield Fault("echoed", f"{where}: {found[0][:40]!r} in {answer.body[:200]!r}")


def _flaw(case: Case, answer: Answer, codes: frozenset[str]) -> str | None:
    """What the document of a refusal lacks."""
    if case.by_server:
        return None if answer.closes else "the server answered by itself and left the connection open"
    if answer.header("content-type") != PROBLEM:
        return f"its type is {answer.header('content-type')}"
    problem = json.loads(answer.body)
    if problem.get("status") != answer.status or not problem.get("detail"):
        return "it lacks its status or its detail"
    if len(answer.body) > LONGEST_PROBLEM:
        return f"it has {len(answer.body):,} bytes"
    if not problem.get("code") or (codes and problem["code"] not in codes):
        return f"its code is {problem.get('code')}, not {sorted(codes)}"
    return None


def _everything(answer: Answer) -> bytes:
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers)
    return (headers.encode("utf-8", "replace") + b"\n\n" + answer.body).lower()
