"""Rows, a definition or a judge that do not do end in a named error with its remedy, the slots as they were."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.cli.client import Json
from benchmarks.llm import rows
from benchmarks.llm.road import MODEL, definition
from benchmarks.report import Report, progress
from benchmarks.service import Service

QUICK: Json = {
    "max_steps": 2,
    "epochs": 1,
    "evaluate": {"rows": 12, "max_tokens": 8},
    "curriculum": {"strategy": "none"},
}
LONG = "why " * 400


@dataclass(frozen=True)
class Situation:
    """`training` lies over the quick one; `questions` are the rows, where they matter."""

    name: str
    code: str
    training: Json
    questions: Callable[[], list[dict[str, Any]]] = lambda: rows.answers(places=False)


SITUATIONS = (
    Situation(
        "every row truncated away",
        "rows_truncated",
        {"max_seq_length": 16},
        lambda: [row | {"question": f"{LONG}{row['question']}"} for row in rows.answers(places=False)],
    ),
    Situation("an empty file", "file_unreadable", {}, list),
    Situation("a data set of one row", "insufficient_data", {}, lambda: rows.answers(places=False)[:1]),
    Situation("a batch too large", "batch_too_large", {"batch_size": 4_096}),
    Situation("a base model that is not there", "base_unavailable", {"base_model": "/nowhere/at-all"}),
    Situation(
        "a judge that is down",
        "judge_unreachable",
        {
            "evaluate": {
                "rows": 12,
                "max_tokens": 8,
                "judges": {"empathy": {"url": "http://127.0.0.1:9/v1", "model": "none", "rubric": "0 cold, 1 warm"}},
            }
        },
    ),
)


def tell(service: Service, told: Report) -> None:
    before = standing(service)
    found = [(each, error_of(service, each)) for each in SITUATIONS]
    for situation, error in found:
        progress(f"{situation.name}: {error['code']}: {error['message']} → {error['remedy']}")
    named = [situation.name for situation, error in found if error["code"] == situation.code and error["remedy"]]
    missed = [f"{situation.name}: {error['code']}" for situation, error in found if situation.name not in named]
    told.tell(
        f"{len(named)} of {len(found)} failures named with their remedy" + f": not {missed}" * bool(missed), not missed
    )
    told.tell("slots untouched by them", standing(service) == before)


def standing(service: Service) -> tuple[int | None, ...]:
    slots = service.slots(MODEL)
    return slots["active"], slots["standby"], slots["generation"]


def error_of(service: Service, situation: Situation) -> Json:
    """How the job ended, or how it was refused."""
    return service.wait_for(trigger(service, situation))["error"] or {"code": "completed", "message": "", "remedy": ""}


def trigger(service: Service, situation: Situation) -> int:
    questions = rows.write(service.inputs / "broken.jsonl", situation.questions())
    told = definition(questions, None, **(QUICK | situation.training))
    told["prerequisites"]["confirmation"] = False
    service.api.put(f"/models/{MODEL}", told)
    return service.trigger(MODEL)
