"""What goes wrong with a language model ends in a named error with its remedy, and the slots stay as they were."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.client import Json
from benchmarks.llm import rows
from benchmarks.llm.road import MODEL, definition
from benchmarks.llm.tiny import base_model
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
    Situation("an empty data set", "insufficient_data", {}, list),
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
    before = service.slots(MODEL)
    found = [(each, error_of(service, each)) for each in SITUATIONS]
    for situation, error in found:
        progress(f"{situation.name}: {error['code']}: {error['message']} → {error['remedy']}")
    named = [situation.name for situation, error in found if error["code"] == situation.code and error["remedy"]]
    missed = [f"{situation.name}: {error['code']}" for situation, error in found if situation.name not in named]
    told.tell(f"{len(named)} of {len(found)} failures named with their remedy {missed or ''}", not missed)
    after = service.slots(MODEL)
    same = all(before[slot] == after[slot] for slot in ("active", "standby", "generation"))
    told.tell("slots untouched by them", same)


def error_of(service: Service, situation: Situation) -> Json:
    """How the job ended, or how it was refused."""
    questions = rows.write(service.inputs / "broken.jsonl", situation.questions())
    told = definition(questions, None, **(QUICK | situation.training))
    told["prerequisites"]["confirmation"] = False
    service.api.put(f"/models/{MODEL}", told)
    job = service.wait_for(service.trigger(MODEL))
    return job["error"] or {"code": job["status"], "message": "", "remedy": ""}


def converter_fails(service: Service, told: Report) -> None:
    """On a service whose converter is a script that fails, and then on one whose disk is full at export."""
    for name, code in (("a converter that fails", "conversion_failed"),):
        error = error_of(service, Situation(name, code, {}))
        progress(f"{name}: {error}")
        told.tell(f"{name}: {error['code']}", error["code"] == code and bool(error["remedy"]))


@contextmanager
def broken_converter(folder: Path) -> Iterator[dict[str, str]]:
    """Settings that name a converter which fails as one does that does not know an architecture."""
    converter = folder / "converter"
    converter.mkdir(parents=True)
    (converter / "gguf-py").mkdir()
    (converter / "conversion").mkdir()
    (converter / "convert_hf_to_gguf.py").write_text("raise SystemExit('Model Qwen9ForCausalLM is not supported')\n")
    yield {"REFIT_LLAMA_CPP_DIR": str(converter)}
    shutil.rmtree(converter)


__all__ = ["base_model", "broken_converter", "converter_fails", "error_of", "tell"]
