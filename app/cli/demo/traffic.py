"""Callers of the model: a hundred predictions with their latency, and a stream of them that a swap must not disturb."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from app.cli.client import Api, Json
from app.cli.failures import Failure


@dataclass
class Answers:
    """`versions` are those that answered, in the order of their first answer."""

    labels: list[Any] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    dropped: int = 0

    def add(self, answer: Json, took: float) -> None:
        self.labels += answer["labels"]
        self.scores += answer["scores"]
        self.milliseconds.append(took * 1_000)
        if answer["version"] not in self.versions:
            self.versions.append(answer["version"])

    @property
    def p99(self) -> float:
        """Of one request, in milliseconds: the nearest rank."""
        return sorted(self.milliseconds)[-1 - len(self.milliseconds) // 100]

    @property
    def in_bounds(self) -> bool:
        return all(0.0 <= score <= 1.0 for score in self.scores)


def predict_each(api: Api, model: str, instances: Sequence[Json]) -> Answers:
    """One request a row."""
    answers = Answers()
    for instance in instances:
        _ask(api, model, instance, answers)
    return answers


@contextmanager
def traffic(api: Api, model: str, instances: Sequence[Json]) -> Iterator[Answers]:
    """Somebody who asks without a pause while the block runs; a request that fails counts as dropped."""
    answers, stop = Answers(), threading.Event()

    def ask() -> None:
        for instance in cycle(instances):
            try:
                _ask(api, model, instance, answers)
            except Failure:
                answers.dropped += 1
            if stop.is_set():
                return

    caller = threading.Thread(target=ask, name="caller")
    caller.start()
    try:
        yield answers
    finally:
        stop.set()
        caller.join()


def _ask(api: Api, model: str, instance: Json, answers: Answers) -> None:
    started = time.monotonic()
    answer = api.post("/predict/batch", {"model": model, "instances": [instance]})
    answers.add(answer, time.monotonic() - started)
