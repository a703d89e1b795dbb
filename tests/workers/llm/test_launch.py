import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.workers.llm.talks import conversations, run_of
from tests.workers.runs import news_of
from workers.llm import launch
from workers.llm.spec import Spec
from workers.pipeline import PipelineError, Run

ROOT = Path(__file__).parents[3]


def spec_of(run: Run, **extra: Any) -> Spec:
    where = run.checkpoints
    return Spec(run.params, Path(run.params.base_model), None, where, where, seed=1, threads=2, extra=extra)


def ranks(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("rank-*") if path.read_text()]


def gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left


@pytest.mark.slow
def test_processes_train_together_and_rank_0_tells(tmp_path: Path) -> None:
    run = run_of(conversations(), tmp_path, processes=2, epochs=3)
    figures = launch.train(run, "tests.workers.llm.launched", spec_of(run, does="add"))
    assert figures == {"sum": 3.0, "epochs": 3.0}
    assert [told["note"] for told in news_of(run).of("progress")] == ["from rank 0"]


def test_an_error_of_any_process_is_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(conversations(), tmp_path, processes=2)
    monkeypatch.setenv("RANK", "1")
    alone = [sys.executable, "-m", "workers.llm.launch", str(run.folder / "launch")]
    monkeypatch.setattr(launch, "_command", lambda *_: alone)
    with pytest.raises(PipelineError, match="nan on rank 1") as failure:
        launch.train(run, "tests.workers.llm.launched", spec_of(run, does="fail"))
    assert (failure.value.code, failure.value.remedy) == ("not_converged", "Lower it.")
    monkeypatch.setattr(launch, "_command", lambda *_: [*alone[:3], "/nowhere"])
    with pytest.raises(PipelineError, match="ended with 1") as failure:
        launch.train(run, "tests.workers.llm.launched", spec_of(run, does="fail"))
    assert failure.value.code == "launch_failed"


def test_a_process_dies_with_the_attempt_though_no_signal_reaches_it(tmp_path: Path) -> None:
    """The launcher gives each a session of its own, out of the group that is killed."""
    script = (
        "import pathlib, subprocess, sys\n"
        "from workers.llm import launch\n"
        "def started(*_):\n"
        "    again = [sys.executable, '-m', 'workers.llm.launch', str(run.folder / 'launch')]\n"
        "    return [sys.executable, '-c', f'import subprocess; subprocess.run({again}, start_new_session=True)']\n"
        "launch._command = started\n"
        "from tests.workers.llm.test_launch import *\n"
        f"run = run_of(conversations(), pathlib.Path({str(tmp_path)!r}), processes=2)\n"
        "launch.train(run, 'tests.workers.llm.launched', spec_of(run, does='hang'))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RANK": "0"}
    attempt = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not ranks(tmp_path / "checkpoints") and time.monotonic() < deadline:
            assert attempt.poll() is None
            time.sleep(0.05)
        pids = ranks(tmp_path / "checkpoints")
    finally:
        os.killpg(attempt.pid, signal.SIGKILL)
        attempt.wait()
    assert len(pids) == 1
    assert gone(pids)


def test_a_spec_is_the_same_in_another_process(tmp_path: Path) -> None:
    spec = spec_of(run_of(conversations(), tmp_path, early_stopping={}), does="add")
    again = Spec.read(spec.written())
    assert dataclasses.replace(again, params=spec.params) == spec
    assert again.params.model_dump() == spec.params.model_dump()
