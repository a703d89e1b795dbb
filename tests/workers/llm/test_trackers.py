import time
from pathlib import Path
from typing import Any

import pytest

from tests.workers.llm.talks import conversations, run_of, trained
from tests.workers.runs import news_of
from workers.llm import trackers


class Deaf:
    """A tracker whose server does what `does` does, whenever it is told something."""

    def __init__(self, does: Any) -> None:
        self._does = does

    def log(self, figures: dict[str, float], step: int) -> None:
        self._does()

    def close(self) -> None: ...


def fail() -> None:
    raise ConnectionError("no route to tracker")


def test_trackers_that_fail_hang_or_are_missing_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 0.2)
    monkeypatch.setitem(trackers.MODULES, "wandb", "orjson")
    monkeypatch.setitem(trackers.MODULES, "mlflow", "nowhere_to_be_found")
    monkeypatch.setitem(trackers.OPENERS, "wandb", lambda *_: Deaf(fail))
    monkeypatch.setitem(trackers.OPENERS, "tensorboard", lambda *_: Deaf(lambda: time.sleep(600)))
    tracked = run_of(conversations(), tmp_path / "a", report_to=["wandb", "tensorboard", "mlflow"])
    watched, plain = trained(tracked), trained(run_of(conversations(), tmp_path / "b"))
    name = "adapter/adapter_model.safetensors"
    assert (watched.folder / name).read_bytes() == (plain.folder / name).read_bytes()
    log = news_of(tracked).log.splitlines()
    assert "wandb is switched off, the training goes on: ConnectionError: no route to tracker" in log
    assert "tensorboard is switched off, the training goes on: it did not end within 0.2 s" in log
    assert [line for line in log if "mlflow" in line] == [
        "mlflow is not installed on this worker and hears nothing: pip install refit[mlflow]"
    ]


def test_a_tracker_that_is_slow_is_not_waited_for() -> None:
    said: list[str] = []

    def report(kind: str, **told: Any) -> None:
        said.append(told["message"])

    for many in (1, trackers.MOST_WAITING * 3):
        slow = trackers.Tracking("slow", lambda _: Deaf(lambda: time.sleep(60)), report)
        slow.begin(0)
        began = time.monotonic()
        for step in range(many):
            slow.put(({"loss": 1.0}, step))
        slow.end(time.monotonic() + 0.1)
        assert time.monotonic() - began < 1
    off = "slow is switched off, the training goes on: "
    assert said == [f"{off}it did not end within 10 s", f"{off}it does not keep up"]


def test_tensorboard_files_lie_in_the_stages_folder(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = trained(run_of(conversations(), tmp_path, report_to=["tensorboard"]))
    events = EventAccumulator(str(done.folder / "logs")).Reload()
    assert [told.step for told in events.Scalars("train/loss")] == list(range(1, 8))
    assert events.Scalars("eval/loss")[0].value == pytest.approx(done.figures["eval_loss"])
