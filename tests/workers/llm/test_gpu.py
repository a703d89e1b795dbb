"""A training has the GPU to itself as far as its definition says how, and gives everything back whatever happens.

NVML is a fake of its library and Ollama one of its protocol (fake_nvml.py, little_ollama.py); commands are real.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.workers.fake_nvml import FakeDevice, FakeNvml
from tests.workers.llm.little_ollama import LittleOllama, little_ollama
from tests.workers.llm.talks import conversations
from tests.workers.llm.talks import run_of as run_on
from tests.workers.runs import news_of
from workers import borrowing, gpus, neighbours
from workers.llm import gpu
from workers.pipeline import PipelineError, Run

OLLAMA, STRANGER = 4711, 4712


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """One GPU of 80,000 MiB, of which an Ollama holds 50,000 and a stranger 20,000."""
    device = FakeDevice(total_mib=80_000, held={OLLAMA: 50_000, STRANGER: 20_000})
    fake = FakeNvml(device, names={OLLAMA: "ollama"})
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu, "SETTLE_SECONDS", 0.3)
    return fake


@pytest.fixture
def ollama(nvml: FakeNvml) -> Iterator[LittleOllama]:
    """It holds 25,000 MiB for each of its two models on the GPU."""
    with little_ollama("qwen3:32b", "gemma3:4b") as server:

        def hold(models: int) -> None:
            nvml.devices[0].held[OLLAMA] = 25_000 * (models - 1)

        server.on_change = hold
        yield server


def run_of(folder: Path, **asked: Any) -> Run:
    return run_on(conversations(1), folder, gpu={"needs_mib": 1_000} | asked)


def touch(path: Path) -> list[str]:
    return ["/usr/bin/touch", str(path)]


def test_what_nvml_says_is_told_in_mib_with_who_holds_it(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.devices.append(FakeDevice(uuid="GPU-bbbb", held={99: None}))
    first, second = gpus.look() or []
    assert (first.free_mib, first.total_mib) == (10_000, 80_000)
    assert first.holders == (gpus.Holder(OLLAMA, "ollama", 50_000), gpus.Holder(STRANGER, "unknown", 20_000))
    assert second.holders == (gpus.Holder(99, "unknown", None),)
    for visible, uuids in {"1": ["GPU-bbbb"], "GPU-b,0": ["GPU-bbbb", "GPU-aaaa"], "0,9,1": ["GPU-aaaa"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [device.uuid for device in gpus.look() or []] == uuids
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert gpus.look() is None
    assert nvml.left_open == 0


@pytest.mark.parametrize(
    "why", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_UNKNOWN]
)
def test_without_a_gpu_nothing_is_done_but_a_line_in_the_log(nvml: FakeNvml, tmp_path: Path, why: int) -> None:
    nvml.fails_with = pynvml.NVMLError(why)
    run = run_of(tmp_path, stop=[touch(tmp_path / "stopped")])
    with gpu.borrowed(run, trains=True):
        assert not (tmp_path / "stopped").exists()
    assert news_of(run).log.count("no GPU here") == 1


def test_it_makes_room_and_gives_back_in_order(ollama: LittleOllama, nvml: FakeNvml, tmp_path: Path) -> None:
    order = tmp_path / "order"
    commands = {
        "stop": [["/bin/sh", "-c", f"echo stop >> {order}; echo the web shop sleeps"]],
        "start": [["/bin/sh", "-c", f"echo {n} >> {order}"] for n in "12"],
    }
    run = run_of(tmp_path, unload_ollama=ollama.url, needs_mib=60_000, **commands)
    with gpu.borrowed(run, trains=True):
        assert nvml.devices[0].free_mib == 60_000
        assert ollama.loaded == {"on-the-cpu"}
        assert order.read_text() == "stop\n"
    assert order.read_text().split() == ["stop", "1", "2"]
    assert ollama.loaded == {"qwen3:32b", "gemma3:4b", "on-the-cpu"}
    loads = [body for body in ollama.asked if body["keep_alive"]]
    assert {body["model"]: body["keep_alive"] for body in loads} == {"qwen3:32b": -1, "gemma3:4b": -1}
    assert "the web shop sleeps" in news_of(run).log
    assert not [*tmp_path.rglob("*.lock"), *tmp_path.rglob("gpu/*/*.json")]


def test_where_it_is_not_enough_it_refuses_with_the_shortfall_and_the_holders(
    ollama: LittleOllama, tmp_path: Path
) -> None:
    run = run_of(tmp_path, unload_ollama=ollama.url, needs_mib=70_000, start=[touch(tmp_path / "back")])
    with pytest.raises(PipelineError) as caught, gpu.borrowed(run, trains=True):
        pytest.fail("it must not begin")
    assert caught.value.code == "gpu_busy"
    assert "10000 MiB are missing" in caught.value.message
    assert "unknown (process 4712, 20000 MiB)" in caught.value.message
    assert "gpu.stop" in caught.value.remedy
    assert (tmp_path / "back").exists()
    assert "qwen3:32b" in ollama.loaded


def test_what_is_needed_is_estimated_where_it_is_not_said(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.devices[0].held = {STRANGER: 79_900}
    run = run_of(tmp_path, needs_mib=None)
    told = r"(7|8)\d\d MiB of GPU memory are needed"
    with pytest.raises(PipelineError, match=told) as caught, gpu.borrowed(run, trains=True):
        pytest.fail("it must not begin")
    assert "process 4712, 79900 MiB" in caught.value.message


def test_a_training_that_fails_gives_back_too(ollama: LittleOllama, tmp_path: Path) -> None:
    run = run_of(tmp_path, unload_ollama=ollama.url)
    with pytest.raises(RuntimeError, match="loss"), gpu.borrowed(run, trains=True):
        raise RuntimeError("the loss is no number")
    assert "qwen3:32b" in ollama.loaded


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        (["/bin/sh", "-c", "echo no such unit >&2; exit 5"], "exit code 5: no such unit"),
        (["/bin/sleep", "60"], "did not end within"),
        (["/no/such/program"], "could not be started: No such file"),
    ],
)
def test_a_stop_command_that_fails_is_named_and_what_was_stopped_before_it_is_started(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: list[str], why: str
) -> None:
    monkeypatch.setattr(neighbours, "COMMAND_SECONDS", 0.3)
    run = run_of(tmp_path, stop=[stop], start=[touch(tmp_path / "back")])
    with pytest.raises(PipelineError, match=why) as caught, gpu.borrowed(run, trains=True):
        pytest.fail("it must not begin")
    assert caught.value.code == "stop_command_failed"
    assert (tmp_path / "back").exists()


def test_an_ollama_that_is_away_holds_nothing_back(nvml: FakeNvml, tmp_path: Path) -> None:
    run = run_of(tmp_path, unload_ollama="http://127.0.0.1:9")
    with gpu.borrowed(run, trains=True):
        assert "no Ollama answers" in news_of(run).log


CHILD = """
import sys, time
from pathlib import Path
from tests.workers.fake_nvml import FakeDevice, FakeNvml
sys.modules["pynvml"] = FakeNvml(FakeDevice())
from tests.workers.llm.talks import conversations, run_of
from workers.llm import gpu
wanted = {"unload_ollama": sys.argv[2], "start": [["/usr/bin/touch", sys.argv[3]]], "needs_mib": 1_000}
run = run_of(conversations(1), Path(sys.argv[1]), gpu=wanted)
with gpu.borrowed(run, trains=True):
    print("trains", flush=True)
    time.sleep(60)
"""


def child(tmp_path: Path, ollama: LittleOllama) -> subprocess.Popen[bytes]:
    """Another attempt of this worker's jobs, which trains now."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    started = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), ollama.url, str(tmp_path / "back")],
        stdout=subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert started.stdout is not None
    if started.stdout.readline() != b"trains\n":
        started.communicate()
        pytest.fail("the other attempt did not begin")
    return started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_attempt_is_given_back_by_itself_or_by_who_comes_next(
    ollama: LittleOllama, tmp_path: Path, number: signal.Signals
) -> None:
    with child(tmp_path, ollama) as attempt:
        assert ollama.loaded == {"on-the-cpu"}
        attempt.send_signal(number)
        attempt.wait(20)
    by_itself = number == signal.SIGTERM
    assert ("qwen3:32b" in ollama.loaded, (tmp_path / "back").exists()) == (by_itself, by_itself)
    said: list[str] = []
    borrowing.give_back_what_was_left(tmp_path / "shared", said.append)
    assert ("qwen3:32b" in ollama.loaded, (tmp_path / "back").exists()) == (True, True)
    assert bool(said) == (not by_itself)


def test_nothing_is_given_back_while_another_attempt_still_trains(ollama: LittleOllama, tmp_path: Path) -> None:
    with child(tmp_path, ollama) as other:
        with gpu.borrowed(run_of(tmp_path, start=[touch(tmp_path / "mine")]), trains=True):
            pass
        borrowing.give_back_what_was_left(tmp_path / "shared", print)
        assert not (tmp_path / "mine").exists()
        other.terminate()
        other.wait(20)
    assert (tmp_path / "mine").exists()
    assert "qwen3:32b" in ollama.loaded


def test_what_cannot_be_given_back_now_is_tried_again_but_not_for_ever(nvml: FakeNvml, tmp_path: Path) -> None:
    door = tmp_path / "door"
    run = run_of(tmp_path, start=[["/bin/ls", str(door)], touch(tmp_path / "back")])
    with gpu.borrowed(run, trains=True):
        pass
    assert (tmp_path / "back").exists()
    [record] = tmp_path.rglob("gpu/*/*.json")
    assert json.loads(record.read_bytes())["start"] == [["/bin/ls", str(door)]]
    said: list[Any] = []
    for _ in range(borrowing.TRIES):
        borrowing.give_back_what_was_left(tmp_path / "shared", said.append)
    assert "gave up giving back" in said[-1]
    assert not record.exists()
