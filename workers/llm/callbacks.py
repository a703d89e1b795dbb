"""What Refit hears of a trainer: progress, curves, and a loss that is no number. Imported where a training begins."""

# ruff: noqa: ARG002 - transformers calls with all of them

import math
import time
from typing import Any

from transformers import TrainerCallback

from workers.pipeline import PipelineError, Reporter

# A few a second are enough for a person; a step of a small model takes milliseconds.
SECONDS_BETWEEN = 0.25
CURVES = (
    "loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy", "eval_mean_token_accuracy",
    "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected", "reward", "reward_std", "kl",
    "eval_rewards/accuracies", "eval_rewards/margins", "completions/mean_length",
)  # fmt: skip


class News(TrainerCallback):
    """Tells `report` of steps, at most four times a second, and of every figure that is logged.

    `until` is the share of the stage that the training is. Raises PipelineError `not_converged` for a loss that is not
    finite: needs logging_nan_inf_filter=False, which `training.arguments` sets.
    """

    def __init__(self, report: Reporter, until: float = 0.98) -> None:
        self._report, self._until = report, until
        self._told = self._began = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began, self._first = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        if not state.is_world_process_zero or (
            now - self._told < SECONDS_BETWEEN and state.global_step < state.max_steps
        ):
            return
        self._told = now
        done = state.global_step - self._first
        left = (now - self._began) / done * (state.max_steps - state.global_step)
        note = f"step {state.global_step} of {state.max_steps}, {_spoken(left)} left"
        self._report("progress", share=self._until * state.global_step / state.max_steps, note=note)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        for name, value in (logs or {}).items():
            if name in ("loss", "eval_loss", "train_loss"):
                assert_finite(name, value, state.global_step)
            if state.is_world_process_zero and name in CURVES and math.isfinite(float(value)):
                self._report("metric", name=name.replace("/", "_"), value=float(value), step=state.global_step)


def assert_finite(name: str, value: float, step: int) -> None:
    """Raises PipelineError `not_converged`."""
    if not math.isfinite(float(value)):
        raise PipelineError(
            "not_converged",
            f"The {name} is {value} at step {step}: the training diverged.",
            "Lower training.learning_rate, raise warmup_ratio, or train with precision: fp32.",
        )


def _spoken(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, _ = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
