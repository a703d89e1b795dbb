"""Three ways to live with drift: never retrain, retrain after each window, and leave it to Refit."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.cli.client import Json
from benchmarks.report import progress
from benchmarks.service import Service, until

BATCH = 200
# No bar but one that every version clears: whatever was trained last is what answers.
NO_GATE: Json = {"mode": "point", "criteria": dict.fromkeys(("f1", "auc_roc", "precision", "recall"))}
MARGIN = 0.01


@dataclass
class Seen:
    """What a model did over the stream."""

    predicted: list[Any] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)  # after which windows
    swapped: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    rolled_back: list[int] = field(default_factory=list)
    regretted: list[tuple[int, float]] = field(default_factory=list)  # the window, and how much worse than before


@dataclass
class Player:
    """One model of the service, which plays one of the ways."""

    service: Service
    name: str
    definition: Json
    seen: Seen = field(default_factory=Seen)
    fresh: bool = False  # whether a version has become active since the last window

    def begin(self) -> None:
        self.service.api.put(f"/models/{self.name}", self.definition)
        job = self.service.train(self.name)
        if not self.service.slots(self.name)["active"]:
            self._until_active(job["version"])

    def predict(self, instances: Sequence[Json], slot: str = "active") -> tuple[list[Any], list[tuple[str, int]]]:
        """The labels, and of each row (request id, place in it)."""
        labels: list[Any] = []
        places: list[tuple[str, int]] = []
        for first in range(0, len(instances), BATCH):
            part = list(instances[first : first + BATCH])
            told = self.service.api.post("/predict/batch", {"model": self.name, "slot": slot, "instances": part})
            labels += told["labels"]
            places += [(told["request_id"], row) for row in range(len(part))]
        return labels, places

    def tell(self, places: Sequence[tuple[str, int]], truth: Sequence[Any]) -> None:
        items = [{"request_id": id, "row": row, "label": value} for (id, row), value in zip(places, truth, strict=True)]
        for first in range(0, len(items), 10_000):
            self.service.api.post("/feedback", {"model": self.name, "feedback": items[first : first + 10_000]})

    def learn(self, window: int) -> None:
        """What becomes of this model after a window. `never`: nothing."""

    def _end(self, job: Json, window: int) -> None:
        self.seen.trained.append(window)
        if job["verdict"] != "pass":
            self.seen.refused.append(window)
            progress(f"{self.name}, window {window}: refused, {job['gate']['reason']}")
            return
        self._until_active(job["version"])
        self.seen.swapped.append(window)
        self.fresh = True

    def _until_active(self, version: int) -> None:
        slots = self.service.slots(self.name)
        if slots["active"] != version and slots["standby"] != version:
            until(lambda: version in _both(self.service.slots(self.name)), f"version {version} to be staged", 120)
        until(lambda: self.service.slots(self.name)["active"] == version, f"version {version} to be active", 120)


class Always(Player):
    def learn(self, window: int) -> None:
        self._end(self.service.train(self.name), window)


class Refit(Player):
    def learn(self, window: int) -> None:
        """Runs the monitors, and waits for what they trigger. A rollback is noted, and its hold lifted as people do."""
        self._after_rollbacks(window)
        until(
            lambda: not self.service.api.get("/feedback", model=self.name)["pending"], "every label to find its answer"
        )
        answer = self.service.api.post("/monitoring/check", {"model": self.name})
        for found in answer["checks"]:
            progress(f"{self.name}, window {window}: {found['monitor']} {found['state']}, {found['reason']}")
        for job in answer["jobs"]:
            self._end(self.service.wait_for(job), window)

    def _after_rollbacks(self, window: int) -> None:
        watches = self.service.api.get("/monitoring/watches", model=self.name, state="rolled_back", limit=200)["data"]
        if len(watches) > len(self.seen.rolled_back):
            self.seen.rolled_back.append(window)
            progress(f"{self.name}, window {window}: rolled back, {watches[0]['reason']}")
        if self.service.slots(self.name)["hold_reason"]:
            self.service.api.post("/model/unhold", {"model": self.name, "reason": "the replay goes on"})


def players(service: Service, definition: Json) -> list[Player]:
    """All three begin with the same version."""
    by_force: Json = {**definition, "gate": NO_GATE, "promotion": {"reload": "automatic"}, "watch": {"minutes": 0}}
    alone: Json = {"monitors": dict.fromkeys(("f1", "drift", "acceptance")), "triggers": {}}
    return [
        Player(service, "never", by_force | alone),
        Always(service, "always", by_force | alone | {"prerequisites": {"min_new_samples": 0}}),
        Refit(service, "refit", definition),
    ]


def wait_out(began: float, seconds: float) -> None:
    """So that a monitor's window of so many seconds has no answers of the window before."""
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def _both(slots: Json) -> tuple[int | None, int | None]:
    return slots["active"], slots["standby"]
