"""A dry run names the endpoints of the definition that do not answer, and warns of no others."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from workers.llm import endpoints
from workers.llm.params import LlmParams

NOBODY = "http://127.0.0.1:9/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = {"/v1/models": 200, "/locked/models": 200 if self.headers["authorization"] == "Bearer k" else 401}
        self.send_response(known.get(self.path, 500 if "broken" in self.path else 404))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def judged(url: str, **more: Any) -> dict[str, Any]:
    return {"evaluate": {"judges": {"kind": {"url": url, "model": "j", "rubric": "r", **more}}}}


def rewarded(method: str) -> dict[str, Any]:
    reward = {"function": "judge", "url": NOBODY, "model": "j", "rubric": "r"}
    return {"preference": {"method": method, "reward": reward}}


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"serve": {"by": "openai", "url": NOBODY, "model": "m"}}, ["training.serve"]),
        ({"serve": {"by": "openai", "url": "@/v1", "model": "m"}}, []),
        (judged(NOBODY), ["training.evaluate.judges.kind"]),
        (judged(NOBODY) | {"stages": ["prepare", "sft"]}, []),
        (judged("@/v1/"), []),
        (judged("@/elsewhere"), []),
        (judged("@/broken"), ["training.evaluate.judges.kind"]),
        (judged("@/locked"), ["training.evaluate.judges.kind"]),
        (judged("@/locked", key="env:A_JUDGES_KEY"), []),
        (judged("@/v1", key="env:NOWHERE"), ["training.evaluate.judges.kind"]),
        (rewarded("grpo"), ["training.preference.reward"]),
        (rewarded("dpo"), []),
    ],
)
def test_an_endpoint_that_does_not_answer_is_named(
    server: str, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], named: list[str]
) -> None:
    monkeypatch.setenv("A_JUDGES_KEY", "k")
    told = LlmParams.model_validate({"base_model": "x"} | _at(server, params))
    assert [warning.partition(":")[0] for warning in endpoints.warnings(told)] == named


def test_one_that_takes_the_call_and_says_nothing_is_waited_for_no_longer_than_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoints, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        told = LlmParams.model_validate({"base_model": "x"} | judged(f"http://127.0.0.1:{mute.getsockname()[1]}/v1"))
        [warning] = endpoints.warnings(told)
    assert "does not answer within 0.05 seconds (ReadTimeout)" in warning


def _at(server: str, told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _at(server, value) for name, value in told.items()}
    return told.replace("@", server) if isinstance(told, str) else told
