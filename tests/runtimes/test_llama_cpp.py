"""Artifacts of format `llama_cpp`, on a real llama.cpp: what they answer, and how their child processes end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from app import runtimes
from app.runtimes import _supervised
from app.runtimes.chat import GREEDY, Down, Message, Sampling
from app.runtimes.llama_cpp import LlamaCpp, load
from benchmarks.llm.tiny import base_model, pairs
from tests.ggufs import asked, tiny_card, write_artifact

LOADER = """
import sys, time
from pathlib import Path
from typing import Any
from app.runtimes.llama_cpp import load
loaded = load(Path(sys.argv[1]))
print(loaded.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "artifact")


@pytest.fixture
def loaded(artifact: Path) -> Iterator[LlamaCpp]:
    generator = load(artifact)
    yield generator
    generator.close()
    wait_until(lambda: gone(generator.pid))


def gone(pid: int | None) -> bool:
    assert pid
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def reference() -> tuple[Any, Any]:
    """Tokenizer and model that the weights were made of."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32)
    return AutoTokenizer.from_pretrained(base_model()), model


def test_it_answers_and_tokenizes_as_the_model_that_it_was_made_of(loaded: LlamaCpp) -> None:
    torch = pytest.importorskip("torch")
    tokenizer, model = reference()
    for question, _ in pairs()[::19]:
        prompt = tokenizer.apply_chat_template(asked(question), add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            written = model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt) :]
        answer = loaded.complete(asked(question), GREEDY)
        assert loaded.prompt_tokens(asked(question)) == prompt
        assert answer.text == tokenizer.decode(written, skip_special_tokens=True)
        assert (answer.finish_reason, answer.prompt_tokens) == ("stop", len(prompt))


@pytest.mark.parametrize("answer", ["The answer is 7.", "é £ 😀."], ids=["words", "characters split among tokens"])
def test_a_given_answer_is_as_likely_as_the_model_says_that_it_was_made_of(loaded: LlamaCpp, answer: str) -> None:
    torch = pytest.importorskip("torch")
    tokenizer, model = reference()
    prompt = tokenizer.apply_chat_template(asked("What is 2 plus 3?"), add_generation_prompt=True, return_dict=False)
    given = tokenizer(answer)["input_ids"]
    with torch.no_grad():
        log_p = model(torch.tensor([prompt + given])).logits[0].log_softmax(-1)
    nats = -sum(float(log_p[len(prompt) + place - 1, token]) for place, token in enumerate(given))
    told = loaded.likelihood(asked("What is 2 plus 3?"), answer)
    assert told.tokens == len(given)
    assert told.nats == pytest.approx(nats, rel=0.01, abs=0.02)  # q8_0 against bf16


def test_an_answer_is_cut_where_the_caller_says_and_a_prompt_beyond_the_context_is_refused(loaded: LlamaCpp) -> None:
    cut = loaded.complete(asked("What is 2 plus 3?"), Sampling(temperature=0, max_tokens=2))
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("The answer", "length", 2)
    with pytest.raises(ValueError, match="exceeds the available context size"):
        loaded.complete(asked("plus " * 300), GREEDY)


def test_answers_written_side_by_side_each_have_the_whole_context(tmp_path: Path) -> None:
    loaded = load(write_artifact(tmp_path / "artifact", tiny_card(context=512)))
    longest = asked("2 " * 190 + "What is 2 plus 3?")
    assert 300 < len(loaded.prompt_tokens(longest)) < 500, "no more than two would have that shared one context"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: loaded.complete(longest, Sampling(max_tokens=2)), range(4)))
    assert [answer.completion_tokens for answer in answers] == [2] * 4
    loaded.close()


def test_the_system_prompt_of_the_card_stands_before_whoever_sends_none(tmp_path: Path) -> None:
    generator = load(write_artifact(tmp_path / "artifact", tiny_card(system_prompt="You are a helpful assistant.")))
    spoken = asked("What is 2 plus 3?")
    given: list[Message] = [{"role": "system", "content": "You are a helpful assistant."}, *spoken]
    assert generator.prompt_tokens(spoken) == generator.prompt_tokens(given)
    generator.close()


def test_a_child_that_crashes_is_healed_and_calls_meanwhile_say_so(loaded: LlamaCpp) -> None:
    before = loaded.pid
    assert before
    os.kill(before, signal.SIGSEGV)
    wait_until(lambda: gone(before))
    with pytest.raises(Down, match=r"ended|does not answer"):
        loaded.complete(asked("What is 2 plus 3?"), GREEDY)
    wait_until(lambda: loaded.pid != before and answers(loaded))
    assert loaded.complete(asked("What is 2 plus 3?"), GREEDY).text == "The answer is 5."


def answers(loaded: LlamaCpp) -> bool:
    try:
        return bool(loaded.complete(asked("What is 2 plus 3?"), GREEDY))
    except Down:
        return False


def test_who_drops_the_last_reference_ends_the_child_and_a_stream_that_holds_one_ends_first(artifact: Path) -> None:
    generator = load(artifact)
    pid, holding = generator.pid, generator
    del generator
    upstream = holding.upstream
    body = {"model": upstream.model, "messages": asked("What is the capital of Japan?"), "stream": True}
    with httpx.stream("POST", f"{upstream.url}/chat/completions", json=body, headers=dict(upstream.headers)) as stream:
        assert "[DONE]" in "".join(stream.iter_text())
    began = time.monotonic()
    del holding
    assert time.monotonic() - began < 0.1, "dropping it waited"
    wait_until(lambda: gone(pid))


def test_kill_9_of_the_parent_ends_the_child_and_a_sigterm_of_the_group_does_not(artifact: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", LOADER, str(artifact)], stdout=subprocess.PIPE, start_new_session=True
    )
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        assert not gone(pid), "it ended before its parent, which was to drain"
        assert os.getpgid(pid) == os.getpgid(parent.pid), "who kills an attempt's group would miss it"
        parent.kill()
    wait_until(lambda: gone(pid))


def test_a_child_holds_no_files_or_sockets_of_its_parent(artifact: Path, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        generator = load(artifact)
        assert held.name not in [opened.path for opened in psutil.Process(generator.pid).open_files()]
        generator.close()


def test_weights_that_cannot_be_read_are_a_value_error_with_the_reason(tmp_path: Path) -> None:
    broken = write_artifact(tmp_path / "broken")
    content = (broken / "model.gguf").read_bytes()
    for bad, why in ((b"hello", "invalid magic"), (content[: len(content) // 2], "cannot serve")):
        (broken / "model.gguf").unlink()
        (broken / "model.gguf").write_bytes(bad)
        with pytest.raises(ValueError, match=why):
            runtimes.load("llama_cpp", broken)


def test_a_chat_template_other_than_the_weights_own_is_refused(tmp_path: Path) -> None:
    other = write_artifact(tmp_path / "other", tiny_card(chat_template="{{ messages }}"))
    with pytest.raises(ValueError, match="chat template"):
        runtimes.load("llama_cpp", other)


def test_one_that_dies_at_once_each_time_is_started_ever_more_rarely(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script, counted = tmp_path / "dies.py", tmp_path / "starts"
    script.write_text(f"open({str(counted)!r}, 'a').write('x')")
    monkeypatch.setattr(_supervised, "FIRST_WAIT", 0.05)
    generator = load(artifact)
    assert generator.pid
    monkeypatch.setattr(_supervised, "SCRIPT", script)
    os.kill(generator.pid, signal.SIGKILL)
    time.sleep(1.5)
    assert 2 <= len(counted.read_text()) <= 5
    generator.close()


def test_a_child_that_cannot_be_started_now_is_started_once_it_can(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_supervised, "FIRST_WAIT", 0.05)
    generator = load(artifact)
    before = generator.pid
    assert before
    with monkeypatch.context() as without:
        without.setattr(sys, "executable", "/no/such/python")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: "not started: No such file" in state(generator))
    wait_until(lambda: answers(generator))
    generator.close()


def state(loaded: LlamaCpp) -> str:
    try:
        return loaded.upstream.url
    except Down as error:
        return str(error)


@pytest.mark.parametrize("interpreter", ["/no/such/python", "/bin/true"])
def test_one_that_never_ran_says_so_at_once(artifact: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str) -> None:
    monkeypatch.setattr(sys, "executable", interpreter)
    began = time.monotonic()
    with pytest.raises(ValueError, match="ended at its start"):
        load(artifact)
    assert time.monotonic() - began < 5
