"""TensorBoard, Weights & Biases and MLflow beside Refit's own curves: they can neither fail a training nor slow it.

What a trainer logs goes into a bounded queue; a thread of its own imports the library and tells it. Whatever is thrown
there switches that tracker off, with one line in the job's log. A queue that is full drops what is new.
"""

# ruff: noqa: ARG002 - transformers calls with all of them

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from workers.llm.params import Tracker
from workers.llm.spec import Spec
from workers.pipeline import Reporter

MOST_WAITING = 1_000
CLOSING_SECONDS = 10.0  # what trackers are given at the end to write what is left, and no more
MODULES: Mapping[Tracker, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
Figures = dict[str, float]


class Sink(Protocol):
    """Where figures go. Only ever called from the tracker's own thread."""

    def log(self, figures: Figures, step: int) -> None: ...
    def close(self) -> None: ...


def trackers(spec: Spec, report: Reporter) -> list[TrainerCallback]:
    """One callback for all trackers that are asked for and installed; a line in the log for one that is not."""
    logs = spec.folder / "logs"
    found: list[Tracking] = []
    for name in dict.fromkeys(spec.params.report_to):
        if find_spec(MODULES[name]) is None:
            report(
                "log", message=f"{name} is not installed on this worker and hears nothing: pip install refit[{name}]"
            )
            continue
        found.append(Tracking(name, partial(OPENERS[name], logs, spec), report))
    return [Trackers(found)] if found else []


class Trackers(TrainerCallback):
    """Passes on what rank 0 logs. At the end all trackers together are given CLOSING_SECONDS."""

    def __init__(self, told: Sequence["Tracking"]) -> None:
        self._told = told

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for tracking in self._told if state.is_world_process_zero else ():
            tracking.begin(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        for tracking in self._told:
            tracking.put((figures, state.global_step))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        deadline = time.monotonic() + CLOSING_SECONDS
        for tracking in self._told:
            tracking.put(None)
        for tracking in self._told:
            tracking.end(deadline)


class Tracking:
    """One tracker: its queue, its thread, and whether it is off. `opened(step)` makes the sink, in the thread."""

    def __init__(self, name: str, opened: Callable[[int], Sink], report: Reporter) -> None:
        self._name, self._open, self._report = name, opened, report
        self._waiting: queue.Queue[tuple[Figures, int] | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._fault: str | None = None

    def begin(self, step: int) -> None:
        self._thread = threading.Thread(target=self._tell, args=(step,), name=self._name, daemon=True)
        self._thread.start()

    def put(self, item: tuple[Figures, int] | None) -> None:
        """Figures and their step; None: there is no more. Never waits."""
        if self._thread is None:
            return
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._off("it does not keep up")
        self._say()

    def end(self, deadline: float) -> None:
        """Waits until what was put is told, or until `deadline` (time.monotonic)."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._off(f"it did not end within {CLOSING_SECONDS:g} s")
        self._say()

    def _tell(self, step: int) -> None:
        try:
            sink = self._open(step)
            while (item := self._waiting.get()) is not None:
                sink.log(*item)
            sink.close()
        except Exception as error:  # noqa: BLE001 - whatever a tracker throws, the training goes on
            self._off(f"{type(error).__name__}: {error}")

    def _off(self, why: str) -> None:
        self._fault = self._fault or why

    def _say(self) -> None:
        """From the training's thread, once; then the tracker is off."""
        if self._fault is not None and self._thread is not None:
            self._thread = None
            self._report("log", message=f"{self._name} is switched off, the training goes on: {self._fault}")


class _TensorBoard:
    """Event files in the stage's `logs/`. A resumed training hides what was written after its checkpoint."""

    def __init__(self, logs: Path, _spec: Spec, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(logs), purge_step=step or None)

    def log(self, figures: Figures, step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(_tag(name), value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """WANDB_API_KEY, WANDB_PROJECT, WANDB_MODE and the like are the worker's environment's."""

    def __init__(self, logs: Path, spec: Spec, _step: int) -> None:
        import wandb

        logs.mkdir(parents=True, exist_ok=True)
        project = os.environ.get("WANDB_PROJECT", "refit")
        self._run = wandb.init(
            project=project,
            dir=str(logs),
            config=_config(spec),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, figures: Figures, step: int) -> None:
        self._run.log({_tag(name): value for name, value in figures.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are the worker's environment's; without the first it is off."""

    def __init__(self, _logs: Path, spec: Spec, _step: int) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        server = os.environ.get("MLFLOW_TRACKING_URI")
        if not server:
            raise ValueError("MLFLOW_TRACKING_URI names no server")
        self._client = MlflowClient(server)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "refit")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._run = self._client.create_run(experiment).info.run_id
        # In one call each, of what is told at once: to a server every call is a round trip, to a file a transaction.
        params = [Param(key, str(value)[:500]) for key, value in _config(spec).items()]
        self._client.log_batch(self._run, params=params)

    def log(self, figures: Figures, step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1_000)
        metrics = [Metric(_tag(name), value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def _config(spec: Spec) -> dict[str, Any]:
    """What the training was told. Not who serves, judges or frees the GPU: that is nothing for a third party."""
    return spec.params.model_dump(mode="json", exclude={"serve", "evaluate", "gpu", "export", "stages"})


def _tag(name: str) -> str:
    """As transformers' own integrations name them, so that runs can be laid over each other."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


OPENERS: dict[Tracker, Callable[[Path, Spec, int], Sink]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _MLflow,
}
