"""The classifier on data that nobody made up for it: what should pass the default gate and what should not."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest

from app.gate.criteria import DEFAULT_CRITERIA
from app.runtimes import load_predictor as load
from app.runtimes.table import to_batch
from tests.workers.runs import data_of, run_of
from workers.ml.classes import indices_of
from workers.ml.scoring import figures
from workers.pipeline import TrainingData
from workers.pipelines.classifier import train

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the real data sets in ../shared/data")


def floors_missed(data: TrainingData, folder: Path, **params: Any) -> set[str]:
    candidate = train(run_of(data, folder, **params))
    predictor, holdout = load("onnx", candidate.folder), data.table("holdout")
    (prediction,) = predictor.predict(to_batch(holdout, predictor.schema))
    classes = indices_of(holdout.column(data.labels[0]), predictor.schema.heads[0].labels)
    measured = figures(classes, prediction.indices, prediction.probabilities)
    assert all(np.isfinite(value) for value in measured.values())
    return {name for name, c in DEFAULT_CRITERIA.items() if c.min is not None and measured[name] < c.min}


@pytest.mark.parametrize("family", ["hist_gradient_boosting", "logistic_regression"])
def test_electricity_with_lags_meets_the_floors_on_later_rows(family: str, tmp_path: Path) -> None:
    table = pyarrow.csv.read_csv(FOLDER / "elec2" / "electricity-lags.csv.gz")
    assert floors_missed(data_of(table, "class", time_ordered=True), tmp_path, families=[family]) == set()


def test_electricity_without_lags_misses_them(tmp_path: Path) -> None:
    table = pyarrow.csv.read_csv(FOLDER / "elec2" / "electricity-normalized.csv.gz")
    data = data_of(table, "class", time_ordered=True, positive="UP")
    assert floors_missed(data, tmp_path, families=["hist_gradient_boosting"])


def test_bank_marketing_of_mixed_columns_misses_them(tmp_path: Path) -> None:
    options = pyarrow.csv.ParseOptions(delimiter=";")
    table = pyarrow.csv.read_csv(FOLDER / "bank-marketing" / "bank-additional-full.csv.gz", parse_options=options)
    assert floors_missed(data_of(table, "y", time_ordered=True), tmp_path)
