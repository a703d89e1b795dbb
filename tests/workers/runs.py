"""Little data versions, and runs of a pipeline over them whose news can be read afterwards."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from app.gate.criteria import Gate
from workers.pipeline import Run, TrainingData
from workers.pipelines.classifier import ClassifierParams


@dataclass
class News:
    """A reporter that keeps what it is told."""

    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, kind: str, **figures: Any) -> None:
        self.heard.append((kind, figures))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [figures for heard, figures in self.heard if heard == kind]

    @property
    def log(self) -> str:
        return "\n".join(figures["message"] for figures in self.of("log"))


def customers(rows: int = 400, seed: int = 1) -> pa.Table:
    """Numbers and names, some missing, a constant and an empty column; whether somebody bought depends on three."""
    generator = np.random.default_rng(seed)
    age, income = generator.normal(40, 12, rows), generator.lognormal(8, 1, rows)
    city = generator.choice(["Rome", "Oslo", "Lima"], rows)
    noise = generator.normal(0, 0.5, rows)
    bought = (age - 40) / 12 + (np.log(income) - 8) + (city == "Oslo") + noise > 0.6
    return pa.table(
        {
            "age": pa.array(age, mask=generator.random(rows) < 0.1),
            "city": pa.array(city, mask=generator.random(rows) < 0.1),
            "income": income,
            "member": generator.random(rows) < 0.5,
            "branch": pa.array(np.full(rows, 3)),
            "empty": pa.nulls(rows),
            "bought": pa.array(np.where(bought, "yes", "no")),
        }
    )


def data_of(table: pa.Table, label: str = "bought", **changes: Any) -> TrainingData:
    """A data version of which the first 70 % train, the next 15 % are validation and the rest holdout rows."""
    rows = len(table)
    split = np.full(rows, "holdout", dtype=object)
    split[: int(0.85 * rows)] = "validation"
    split[: int(0.7 * rows)] = "train"
    given: dict[str, Any] = {
        "digest": "d" * 64,
        "labels": (label,),
        "features": tuple(name for name in table.column_names if name != label),
        "categorical": frozenset(),
        "positive": None,
        "time_ordered": False,
        "text": None,
        "rows": table,
        "split": pa.chunked_array([pa.array(split, pa.string())]),
    }
    return TrainingData(**given | changes)


def run_of(data: TrainingData, folder: Path, *, memory_scale: float = 1.0, seed: int = 7, **params: Any) -> Run:
    """A run that tries logistic regression once, unless `params` say otherwise. Its news is `run.report.heard`."""
    quick: dict[str, Any] = {"optuna_trials": 1, "families": ["logistic_regression"], "cv_folds": 2}
    return Run(
        params=ClassifierParams(**quick | params),
        data=data,
        folder=folder / "staging",
        checkpoints=folder / "checkpoints",
        shared=folder / "shared",
        threads=1,
        seed=seed,
        memory_scale=memory_scale,
        gate=Gate(),
        report=News(),
    )


def news_of(run: Run) -> News:
    assert isinstance(run.report, News)
    return run.report
