"""An attempt that was cut short, and the one after it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.workers.runs import customers, data_of, news_of, run_of
from workers.ml import families
from workers.ml.estimator import Effort
from workers.pipeline import Run
from workers.pipelines.classifier import train

PARAMS: dict[str, Any] = {
    "families": ["hist_gradient_boosting", "logistic_regression", "mlp"],
    "optuna_trials": 5,
    "epochs": 5,
}


class Killed(BaseException):
    """As SIGKILL would: no handler of the pipeline sees it."""


def train_until_trial(number: int, run: Run) -> None:
    told = run.report

    def report(kind: Any, **figures: Any) -> None:
        told(kind, **figures)
        if kind == "progress" and figures["note"].startswith(f"trial {number}/"):
            raise Killed

    run.report = report
    with pytest.raises(Killed):
        train(run)


def tried(run: Run) -> list[int]:
    return [m["step"] for m in news_of(run).of("metric") if m["name"] == "cv_auc_roc"]


def test_a_resumed_attempt_skips_finished_trials_and_ends_as_if_never_interrupted(tmp_path: Path) -> None:
    data = data_of(customers())
    whole = train(run_of(data, tmp_path / "whole", **PARAMS))
    train_until_trial(5, run_of(data, tmp_path / "cut", **PARAMS))
    resumed = run_of(data, tmp_path / "cut", **PARAMS)
    candidate = train(resumed)
    assert tried(resumed) == [4]
    assert "4 trials of an earlier attempt are taken over" in news_of(resumed).log
    assert candidate.details == whole.details
    for name in ("model.onnx", "schema.json", "smoke.json", "profile.json"):
        assert (candidate.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize("changed", [{"data": {"digest": "e" * 64}}, {"params": {"class_weight": "none"}}, {"seed": 8}])
def test_trials_of_other_data_parameters_or_seed_are_not_taken_over(changed: dict[str, Any], tmp_path: Path) -> None:
    train(run_of(data_of(customers()), tmp_path, optuna_trials=2))
    data = data_of(customers(), **changed.get("data", {}))
    params = {"optuna_trials": 2, **changed.get("params", {})}
    run = run_of(data, tmp_path, seed=changed.get("seed", 7), **params)
    train(run)
    assert tried(run) == [0, 1]


def test_an_attempt_after_out_of_memory_halves_the_batch_and_doubles_the_accumulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, efforts = families.FAMILIES["logistic_regression"], []

    def fit(rows: Any, stop: Any, chosen: Any, effort: Effort) -> Any:
        efforts.append(effort)
        return original.fit(rows, stop, chosen, effort)

    monkeypatch.setitem(families.FAMILIES, "logistic_regression", replace(original, fit=fit))
    train(run_of(data_of(customers()), tmp_path, batch_size=64, memory_scale=0.5))
    assert {(effort.batch_size, effort.accumulation) for effort in efforts} == {(64, 2)}


def test_an_attempt_after_out_of_memory_takes_over_what_fitted_into_it(tmp_path: Path) -> None:
    train_until_trial(2, run_of(data_of(customers()), tmp_path, optuna_trials=2))
    run = run_of(data_of(customers()), tmp_path, optuna_trials=2, memory_scale=0.5)
    train(run)
    assert tried(run) == [1]
