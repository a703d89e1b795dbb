"""A service that is made up: what it is asked is kept, what it answers is set."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from click.testing import Result

from app.training.schemas import JobView

Answer = Any  # JSON, an httpx.Response, an exception to raise, or a function of the request that gives JSON
Refit = Callable[..., Result]

URL = "http://127.0.0.1:1"


@dataclass
class MadeUpService:
    """Answers each call in turn as it was told; the last answer is given for ever."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def on(self, call: str, *answers: Answer) -> None:
        """`call` is such as `GET /model/slots`."""
        self.answers[call] = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        queue = self.answers.get(f"{request.method} {request.url.path}")
        if queue is None:
            return problem(404, "not_found", f"{request.method} {request.url.path}: Not Found.")
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(request)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def body(self, turn: int = -1) -> Any:
        return json.loads(self.asked[turn].content)


def problem(status: int, code: str, detail: str = "No.", **members: Any) -> httpx.Response:
    body = {"type": f"urn:refit:problem:{code}", "title": "", "status": status, "code": code, "detail": detail}
    return httpx.Response(
        status, content=json.dumps(body | members), headers={"content-type": "application/problem+json"}
    )


def page(*rows: Any, after: str | None = None) -> dict[str, Any]:
    return {"data": list(rows), "has_more": after is not None, "next": after}


def job(**changes: Any) -> dict[str, Any]:
    """A running job, as the service tells it."""
    told: dict[str, Any] = dict.fromkeys(JobView.model_fields)
    told |= {
        "job_id": 12,
        "model": "fraud",
        "model_type": "classifier",
        "status": "running",
        "is_terminal": False,
        "cancelling": False,
        "attempt": 1,
        "max_attempts": 3,
        "stage": "search",
        "progress": 0.4,
        "definition_revision": 1,
        "data_version": "latest",
        "params": {},
        "dry_run": False,
        "queue": "cpu",
        "strategy": "full",
        "priority": "normal",
        "trigger": "manual",
        "actor": "alice (a11ce)",
        "forced": False,
        "created_at": "2026-11-21T08:00:00Z",
        "started_at": "2026-11-21T08:00:01Z",
    }
    return JobView.model_validate(told | changes).model_dump(mode="json")


def ended(status: str = "completed", verdict: str | None = "pass", **changes: Any) -> dict[str, Any]:
    """A job that has ended, with a gate's report where it was completed."""
    told: dict[str, Any] = {"is_terminal": True, "progress": 1.0, "finished_at": "2026-11-21T08:00:11Z"}
    if status == "completed" and verdict:
        told |= {"verdict": verdict, "version": 7, "gate": gate(verdict)}
    return job(status=status, **told | changes)


def gate(verdict: str = "pass") -> dict[str, Any]:
    criterion = {
        "name": "f1",
        "verdict": verdict,
        "candidate": 0.91,
        "incumbent": 0.9,
        "delta": 0.01,
        "requirement": ">= incumbent - 0.01",
        "n": 800,
        "interval": [0.0, 0.02],
        "reason": "because",
    }
    return {
        "verdict": verdict,
        "mode": "point",
        "incumbent": 6,
        "data_version": "d" * 64,
        "rows": 800,
        "rows_per_class": {"0": 700, "1": 100},
        "criteria": [criterion],
        "reason": "Because.",
    }
