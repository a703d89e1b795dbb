"""Models whose truth is known, rows that are asked about, and labels that come back: over HTTP, as others would."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import numpy.typing as npt

from app.cli.client import Json, Unreachable
from benchmarks.service import Service, until

Rows = npt.NDArray[np.float64]
Given = TypeVar("Given")

ROWS, COLUMNS = 3_000, 6
QUICK = {"optuna_trials": 1, "cv_folds": 2, "families": ["logistic_regression"]}
# By which column a file's labels go. The traffic's go by the first: who learns the other one is right on its holdout.
TRUE, OTHER = 0, 1


@dataclass(frozen=True)
class Asked:
    """Answers to rows, and their truth: what feedback is made of."""

    request: str
    version: int
    labels: list[int]
    truth: list[int]

    @property
    def feedback(self) -> list[Json]:
        return [{"request_id": self.request, "row": row, "label": label} for row, label in enumerate(self.truth)]


@dataclass(frozen=True)
class Model:
    """A model of a service, and those who ask it. `rng` draws the rows."""

    service: Service
    name: str
    rng: np.random.Generator

    def define(self, **rest: Any) -> None:
        data = {"source": "file", "path": str(self.file), "key": "id", "label": "label"}
        told = {"training": QUICK, "prerequisites": {"min_new_samples": 0}} | rest
        self.service.define(self.name, data, **told)

    def train(self, column: int = TRUE, rows: int = ROWS) -> int:
        """The number of a version that has learnt from a file whose labels go by that column, and passed its gate."""
        self.write(column, rows)
        job = self.service.train(self.name)
        if job["verdict"] != "pass":
            raise RuntimeError(f"version {job['version']} of {self.name} did not pass: {job['gate']['reason']}")
        return int(job["version"])

    def write(self, column: int = TRUE, rows: int = ROWS) -> None:
        self.file.parent.mkdir(exist_ok=True)
        numbers = np.random.default_rng(rows).normal(size=(rows, COLUMNS))
        names = ",".join(["id", *(f"x{place}" for place in range(COLUMNS)), "label"])
        table = [
            ",".join(map(str, (place, *row, label)))
            for place, (row, label) in enumerate(zip(numbers.tolist(), truth_of(numbers, column), strict=True))
        ]
        self.file.write_text("\n".join([names, *table]) + "\n")

    def reload(self, **force: Any) -> Json:
        until(self._is_warm, f"a standby of {self.name} that is warm everywhere")
        swapped: Json = self.service.api.post("/model/reload", {"model": self.name, **force})
        return swapped

    def ask(self, rows: int, *, key: str | None = None) -> Asked:
        drawn = self.rng.normal(size=(rows, COLUMNS))
        body = {"model": self.name, "instances": drawn.tolist()}
        headers = {"X-Routing-Key": key} if key else {}
        told = insist(lambda: self.service.api.call("POST", "/predict/batch", json=body, headers=headers)).json()
        return Asked(told["request_id"], told["version"], told["labels"], truth_of(drawn, TRUE))

    def tell(self, *asked: Asked) -> Json:
        """Labels of these answers. Sent again where the connection broke: twice is once."""
        body = {"model": self.name, "feedback": [item for each in asked for item in each.feedback]}
        told: Json = insist(lambda: self.service.api.post("/feedback", body))
        return told

    def counted(self) -> int:
        """Labels that the F1 monitor counts of the active version."""
        found = self.service.api.post("/monitoring/check", {"model": self.name, "trigger": False})["checks"]
        return int(next(check for check in found if check["monitor"] == "f1")["numbers"]["labels"])

    def states(self) -> Json:
        """Feedback by what became of it."""
        states: Json = self.service.api.get("/feedback", model=self.name)
        return states

    def watch(self) -> Json:
        """That of the last swap; empty before it has begun."""
        found: Sequence[Json] = self.service.api.get("/monitoring/watches", model=self.name, limit=1)["data"]
        return found[0] if found else {}

    def watch_of(self, version: int, *states: str, seconds: float = 60.0) -> Json:
        """The watch of that version's swap, once it is in one of the states."""

        def found() -> Json | None:
            watch = self.watch()
            return watch if watch and watch["version"] == version and watch["state"] in states else None

        what = f"the watch of version {version} of {self.name} to be {' or '.join(states)}"
        watch: Json = until(found, what, seconds=seconds)
        return watch

    @property
    def file(self) -> Path:
        return self.service.inputs / f"{self.name}.csv"

    def _is_warm(self) -> bool:
        slots = self.service.slots(self.name)
        return bool(slots["standby"]) and all(r["warm"] == slots["standby"] for r in slots["replicas"])


def truth_of(rows: Rows, column: int) -> list[int]:
    return [int(value) for value in rows[:, column] > 0]


def insist(call: Callable[[], Given]) -> Given:
    """What may be asked twice is, while a process or Postgres comes back."""

    def answered() -> tuple[Given] | None:
        try:
            return (call(),)
        except (Unreachable, httpx.TransportError):
            return None

    found: tuple[Given] = until(answered, "an answer", seconds=30)
    return found[0]


def refit(service: Service, *words: str) -> str:
    """What the command says, in a process of its own. Raises RuntimeError where it fails."""
    told: Mapping[str, str] = {"REFIT_URL": service.url, "REFIT_API_KEY": service.key}
    command = (sys.executable, "-P", "-m", "app.cli", *words)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | told, check=False)
    if done.returncode:
        raise RuntimeError(f"refit {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
