"""Artifacts of format `openai`: through a strict fake of Ollama's published API, over a real llama.cpp."""

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import orjson
import pytest

from app import runtimes
from app.runtimes._ollama import parameters
from app.runtimes._tags import tidy
from app.runtimes.chat import GREEDY, Down, Sampling, Unsupported
from app.runtimes.llama_cpp import load as load_llama_cpp
from app.runtimes.openai import load
from tests.ggufs import asked, tiny_card, write_artifact
from tests.ollama import Fake, Model, running

SYSTEM = "You are a helpful assistant."
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SOON = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[tuple[Fake, str]]:
    (tmp_path / "blobs").mkdir()
    with running(tmp_path / "blobs") as started:
        yield started


def endpoint(url: str, **said: str) -> dict[str, str | None]:
    return {"api": "ollama", "url": url, "model": None, "key": None, **said}


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def test_a_version_is_created_from_blobs_under_the_name_of_its_content_and_answers(
    ollama: tuple[Fake, str], tmp_path: Path
) -> None:
    fake, url = ollama
    card = tiny_card(system_prompt=SYSTEM)
    first = load(write_artifact(tmp_path / "one", card, endpoint=endpoint(url)))
    again = load(write_artifact(tmp_path / "two", card, endpoint=endpoint(url)))
    other = load(write_artifact(tmp_path / "three", tiny_card(), endpoint=endpoint(url)))
    assert first.upstream.model == again.upstream.model != other.upstream.model
    assert first.upstream.model.startswith("refit/version:")
    assert set(fake.runners) == set(fake.models) == {first.upstream.model, other.upstream.model}
    assert fake.asked[1] == (
        "generate",
        {"model": first.upstream.model, "prompt": "", "stream": False, "keep_alive": -1, "options": {}},
    )
    answer = other.complete(asked("What is 2 plus 3?"), GREEDY)
    assert (answer.text, answer.finish_reason, answer.prompt_tokens) == ("The answer is 5.", "stop", 16)
    cut = other.complete(asked("What is 2 plus 3?"), Sampling(max_tokens=2))
    assert (cut.text, cut.finish_reason) == ("The answer", "length")
    with pytest.raises(ValueError, match="exceeds the context length"):
        other.complete(asked("plus " * 300), GREEDY)
    for cannot in (lambda: other.likelihood(asked("?"), "5"), lambda: other.prompt_tokens(asked("?"))):
        with pytest.raises(Unsupported):
            cannot()
    for loaded in (again, first, other):
        loaded.close()


def test_closing_unloads_what_it_has_loaded_and_nothing_that_others_had(
    ollama: tuple[Fake, str], tmp_path: Path
) -> None:
    fake, url = ollama
    folder = write_artifact(tmp_path / "one", endpoint=endpoint(url))
    first = load(folder)
    second = load(folder)
    second.close()
    time.sleep(0.3)
    assert fake.runners, "the evaluation of an incumbent took it out of Ollama's memory"
    began = time.monotonic()
    del first
    assert time.monotonic() - began < 0.1, "dropping it waited"
    wait_until(lambda: not fake.runners)


def test_the_openai_protocol_of_its_upstream_streams(ollama: tuple[Fake, str], tmp_path: Path) -> None:
    loaded = load(write_artifact(tmp_path / "one", endpoint=endpoint(ollama[1])))
    body = {"model": loaded.upstream.model, "messages": asked("What is 2 plus 3?"), "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{loaded.upstream.url}/chat/completions", json=body) as stream:
        events = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: {")]
    said = [orjson.loads(event)["choices"] for event in events]
    assert "".join(choice[0]["delta"].get("content") or "" for choice in said if choice) == "The answer is 5."
    loaded.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"system": "You are Mario."}, "system prompt"),
        ({"parameters": {"temperature": 0.8}}, "other parameters of it than card.json: .*temperature"),
    ],
)
def test_an_ollama_that_says_other_than_the_card_is_refused(
    ollama: tuple[Fake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], why: str
) -> None:
    class Altered(Model):
        def __init__(self, weights: str, system: str, template: str, parameters: dict[str, object]) -> None:
            super().__init__(weights, system, template, parameters)
            vars(self).update(change)

    monkeypatch.setattr("tests.ollama.Model", Altered)
    with pytest.raises(ValueError, match=why):
        load(write_artifact(tmp_path / "one", endpoint=endpoint(ollama[1])))


def test_a_template_of_ollamas_own_is_refused_and_one_that_the_artifact_brings_is_not(
    ollama: tuple[Fake, str], tmp_path: Path
) -> None:
    fake, url = ollama
    said = {"text": "", "template": "{{ range .Messages }}…{{ end }}"}
    load(write_artifact(tmp_path / "brought", endpoint=endpoint(url), modelfile=said)).close()
    fake.go_template = "{{ .Prompt }}"
    with pytest.raises(ValueError, match="a template of its own"):
        load(write_artifact(tmp_path / "other", endpoint=endpoint(url)))


def test_tidying_takes_our_old_tags_that_are_not_kept_and_nothing_else(
    ollama: tuple[Fake, str], tmp_path: Path
) -> None:
    fake, url = ollama
    kept = load(write_artifact(tmp_path / "one", endpoint=endpoint(url)))
    spare = load(write_artifact(tmp_path / "two", tiny_card(system_prompt=SYSTEM), endpoint=endpoint(url)))
    fake.models["llama3.2:latest"] = fake.models[kept.upstream.model]
    assert tidy(url, {kept.upstream.model}, LONG_AGO) == []
    assert tidy(url, {kept.upstream.model}, SOON) == [spare.upstream.model]
    assert set(fake.models) == {"llama3.2:latest", kept.upstream.model}
    assert set(fake.runners) == {kept.upstream.model}
    with pytest.raises(Down, match="404"):
        spare.complete(asked("What is 2 plus 3?"), GREEDY)
    kept.close()
    spare.close()


def test_an_ollama_that_is_away_is_down(tmp_path: Path) -> None:
    with pytest.raises(Down):
        load(write_artifact(tmp_path / "one", endpoint=endpoint("http://127.0.0.1:1")))


def test_a_server_of_openais_protocol_must_have_the_model_and_the_key_must_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = load_llama_cpp(write_artifact(tmp_path / "served"))
    (_, bearer), *_ = served.upstream.headers
    monkeypatch.setenv("SERVER_KEY", bearer.removeprefix("Bearer "))
    said = {"api": "openai", "url": served.upstream.url, "model": served.upstream.model, "key": "env:SERVER_KEY"}
    loaded = runtimes.load("openai", write_artifact(tmp_path / "remote", endpoint=said))
    assert runtimes.is_generator(loaded)
    assert loaded.complete(asked("What is 2 plus 3?"), GREEDY).text == "The answer is 5."
    with pytest.raises(Unsupported, match="prompt_logprobs"):
        loaded.likelihood(asked("What is 2 plus 3?"), "The answer is 5.")
    with pytest.raises(ValueError, match="has no model 'other'"):
        load(write_artifact(tmp_path / "other", endpoint=said | {"model": "other"}))
    monkeypatch.delenv("SERVER_KEY")
    with pytest.raises(ValueError, match="SERVER_KEY is not set"):
        load(write_artifact(tmp_path / "keyless", endpoint=said))
    loaded.close()
    served.close()
    gc.collect()


def test_parameters_are_read_as_go_writes_them() -> None:
    shown = [
        r'stop                           "<|im_end|>"',
        r'stop                           "a \"b\"\n\a\x1f\u2028\U000e0001\\n é"',
        "num_ctx                        4096",
        "repeat_penalty                 1.1",
        "seed                           1e+06",
        "penalize_newline               true",
        "odd                            (1, 2)",
    ]
    assert parameters("\n".join(shown)) == {
        "stop": ["<|im_end|>", 'a "b"\n\a\x1f\u2028\U000e0001\\n é'],
        "num_ctx": 4096,
        "repeat_penalty": 1.1,
        "seed": 1e6,
        "penalize_newline": True,
        "odd": "(1, 2)",
    }
