"""`strategy: pull`: a model that Ollama fetches becomes a candidate, pinned to what was fetched."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app import runtimes
from app.runtimes.chat import GREEDY
from app.runtimes.openai import load
from tests.ggufs import asked, tiny_gguf
from tests.ollama import Fake, running
from tests.workers.runs import customers, data_of, news_of, run_of
from workers.llm import pull
from workers.llm.params import LlmParams
from workers.pipeline import PipelineError, Run
from workers.pipelines.llm import PIPELINE


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[tuple[Fake, str]]:
    (tmp_path / "blobs").mkdir()
    with running(tmp_path / "blobs") as (fake, url):
        fake.registry["tiny:latest"] = (tiny_gguf().read_bytes(), {"parameters": {"stop": ["<|im_end|>"]}})
        yield fake, url


def run_in(folder: Path, **serve: Any) -> Run:
    table: pa.Table = customers(20)
    params = LlmParams.model_validate({"base_model": "tiny", "serve": {"by": "ollama", "context": 512, **serve}})
    return replace(run_of(data_of(table), folder), params=params, strategy="pull")


def test_what_was_pulled_is_a_candidate_that_answers_and_the_same_model_is_the_same_bytes(
    ollama: tuple[Fake, str], tmp_path: Path
) -> None:
    run = run_in(tmp_path / "one", model="tiny", url=ollama[1])
    candidate = PIPELINE.train(run)
    assert candidate is not None
    assert candidate.format == "openai"
    assert {"share": 1.0, "note": f"pulling {sha_of(ollama[0])[7:19]}"} in news_of(run).of("progress")
    again = pull.fetch(run_in(tmp_path / "two", model="tiny", url=ollama[1]))
    assert read(candidate.folder) == read(again.folder)
    loaded = runtimes.load("openai", candidate.folder)
    assert runtimes.is_generator(loaded)
    assert (loaded.card.architecture, loaded.card.context, loaded.card.stop) == ("qwen3", 512, ("<|im_end|>",))
    assert loaded.complete(asked("What is 2 plus 3?"), GREEDY).text == "The answer is 5."
    loaded.close()


def sha_of(fake: Fake) -> str:
    return fake.models["tiny:latest"].weights


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_version_stays_with_what_it_pulled_when_the_name_moves_on(ollama: tuple[Fake, str], tmp_path: Path) -> None:
    fake, url = ollama
    first = pull.fetch(run_in(tmp_path / "one", model="tiny", url=url))
    loaded = load(first.folder)
    content, _ = fake.registry["tiny:latest"]
    fake.registry["tiny:latest"] = (content, {"system": "You are a helpful assistant."})
    second = pull.fetch(run_in(tmp_path / "two", model="tiny", url=url))
    assert second.details["digest"] != first.details["digest"]
    load(first.folder).close()  # as a replica does that starts later
    third = pull.fetch(run_in(tmp_path / "three", model="tiny", url=url))
    fake.registry["tiny:latest"] = (content, {"system": "You are Mario."})
    pull.fetch(run_in(tmp_path / "four", model="tiny", url=url))
    with pytest.raises(ValueError, match="no longer with the digest"):  # nobody has ever loaded it
        load(third.folder)
    loaded.close()


def test_what_cannot_be_pulled_says_why_and_what_to_do(ollama: tuple[Fake, str], tmp_path: Path) -> None:
    fake, url = ollama
    failures = {
        "pull_unnamed": run_in(tmp_path / "unnamed", url=url),
        "pull_failed": run_in(tmp_path / "unknown", model="nobody", url=url),
        "pull_timeout": run_in(tmp_path / "slow", model="tiny", url=url, pull_minutes=0.3 / 60),
    }
    fake.pull_seconds = 2.0
    for code, run in failures.items():
        with pytest.raises(PipelineError) as raised:
            pull.fetch(run)
        assert raised.value.code == code, raised.value.message
    with pytest.raises(PipelineError, match="does not answer") as raised:
        pull.fetch(run_in(tmp_path / "away", model="tiny", url="http://127.0.0.1:1"))
    assert raised.value.code == "pull_failed"


def test_a_dry_run_says_what_would_be_pulled_and_pulls_nothing(ollama: tuple[Fake, str], tmp_path: Path) -> None:
    run = run_in(tmp_path / "one", model="tiny", url=ollama[1])
    assert PIPELINE.plan(run)["digest_now"] is None
    assert not ollama[0].models
    pull.fetch(run)
    assert PIPELINE.plan(run)["digest_now"] == ollama[0].models["tiny:latest"].digest
