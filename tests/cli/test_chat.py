"""`refit chat` and `refit predict` with a language model."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.failures import Exit
from tests.cli.made_up import MadeUpService, Refit, problem

CHAT, PREDICT = "POST /v1/chat/completions", "POST /predict/batch"


def chunk(text: str, reason: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]
    return b"data: %s\n\n" % json.dumps({"id": "ab", "system_fingerprint": "v7-g3", "choices": choices}).encode()


def events(*parts: bytes) -> httpx.Response:
    return httpx.Response(200, content=b"".join(parts), headers={"content-type": "text/event-stream"})


def completed(request: httpx.Request) -> dict[str, Any]:
    rows = json.loads(request.content)["instances"]
    told = [row["prompt"].upper() if "prompt" in row else "M" for row in rows]
    named = {"model": "qa", "version": 7, "generation": 3, "slot": "standby", "request_id": "ab"}
    return named | {"completions": told, "finish_reasons": ["stop"] * len(rows), "usage": {}}


def test_an_answer_goes_to_the_terminal_as_it_comes_and_steers_nothing(service: MadeUpService, refit: Refit) -> None:
    service.on(CHAT, lambda _: events(chunk("Hi\x1b[2J\n"), chunk("there", "length"), b"data: [DONE]\n\n"))
    result = refit("chat", "qa", "Hello?", "--temperature", "0")
    assert (result.exit_code, result.stdout) == (0, "Hi[2J\nthere\n")
    assert "by v7-g3, cut at its longest; request ab" in result.stderr
    assert json.loads(service.asked[-1].content) == {
        "model": "qa", "messages": [{"role": "user", "content": "Hello?"}], "temperature": 0, "stream": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "exit"),
    [
        (lambda _: events(chunk("Hi"), b'data: {"error": {"message": "It is down."}}\n\n'), Exit.UNREACHABLE),
        (lambda _: events(chunk("Hi")), Exit.UNREACHABLE),
        (lambda _: problem(422, "prompt_too_long"), Exit.USAGE),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(
    service: MadeUpService, refit: Refit, answer: Any, exit: Exit
) -> None:
    service.on(CHAT, answer)
    assert refit("chat", "qa", "Hello?").exit_code == exit


def test_standby_is_asked_by_its_slot_and_as_its_card_says(service: MadeUpService, refit: Refit) -> None:
    service.on(PREDICT, completed)
    result = refit("chat", "qa", "Hello?", "--slot", "standby", "--json")
    assert json.loads(result.stdout)["completions"] == ["M"]
    assert refit("chat", "qa", "Hello?", "--slot", "standby", "--seed", "1").exit_code == Exit.USAGE


def test_a_file_of_prompts_comes_back_with_answers(service: MadeUpService, refit: Refit, tmp_path: Path) -> None:
    chat = {"prompt": "question", "completion": "reply"}
    service.on("GET /model/slots", {"model": "qa"})
    service.on("GET /models/qa", {"definition": {"data": {"chat": chat}}})
    service.on(PREDICT, completed)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a", "reply": "b"}\n{"question": [{"role": "user", "content": "c"}]}\n')
    result = refit("predict", str(file))
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"question": "a", "reply": "b", "answer": "A", "finish_reason": "stop"},
        {"question": [{"role": "user", "content": "c"}], "answer": "M", "finish_reason": "stop"},
    ]


@pytest.mark.parametrize("typed", ["", "\n \n"])
def test_nothing_on_stdin_is_no_question(service: MadeUpService, refit: Refit, typed: str) -> None:
    assert (refit("chat", "qa", stdin=typed).exit_code, service.asked) == (Exit.USAGE, [])
