"""A model with two versions that answer the same rows differently, and can be told apart by it."""

from dataclasses import dataclass

import orjson

from app.cli.client import Json
from benchmarks.data import features, separable
from benchmarks.service import Service, until

MODEL = "swapped"
ROWS, COLUMNS = 100, 30
QUICK = {"optuna_trials": 1, "cv_folds": 2, "families": ["logistic_regression"]}
# Both versions are to pass: this is about swapping them, not about which is better.
LENIENT = {"criteria": {"f1": None, "auc_roc": None, "recall": None, "precision": {"min": 0.0}}}


@dataclass(frozen=True)
class Versions:
    """`body` is the batch that is asked for all the time, `scores` what each version answers to it."""

    body: bytes
    scores: dict[int, list[float]]
    generation: int
    active: int


def two_versions(service: Service) -> Versions:
    """Version 1 active, version 2 warm in standby; they learnt from different rows."""
    file = service.inputs / "rows.csv"
    data = separable(file, 1_000, COLUMNS)
    free = {"prerequisites": {"min_new_samples": 0}, "watch": {"minutes": 0}}
    service.define(MODEL, data, training=QUICK, gate=LENIENT, **free)
    service.train(MODEL)
    service.api.post("/model/reload", {"model": MODEL})
    separable(file, 2_000, COLUMNS)
    service.train(MODEL)
    slots = until(lambda: warm(service), "a standby that is warm everywhere")
    rows = [list(row.values()) for row in features(data)[:ROWS]]
    scores = {slots[slot]: _scores(service, rows, slot) for slot in ("active", "standby")}
    if scores[slots["active"]] == scores[slots["standby"]]:
        raise RuntimeError("the two versions answer alike: nothing could be told apart")
    body = orjson.dumps({"model": MODEL, "instances": rows})
    return Versions(body, scores, slots["generation"], slots["active"])


def warm(service: Service) -> Json | None:
    """The slots, once every replica holds the standby warm."""
    slots = service.slots(MODEL)
    ready = slots["standby"] and all(replica["warm"] == slots["standby"] for replica in slots["replicas"])
    return slots if ready else None


def _scores(service: Service, rows: list[list[float]], slot: str) -> list[float]:
    answer = service.api.post("/predict/batch", {"model": MODEL, "instances": rows, "slot": slot})
    scores: list[float] = answer["scores"]
    return scores
