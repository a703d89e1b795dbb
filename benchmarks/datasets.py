"""Three real data streams, split by time: one meets the runbook's default gate, two are refused and nothing changes."""

import sys
import time
from dataclasses import dataclass
from typing import Any

from app.cli.client import Json
from benchmarks.data import SHARED
from benchmarks.report import Report, progress, report
from benchmarks.service import Service, running

SLOTS = ("active", "standby", "previous", "generation", "revision")
# What makes a first version active where the default gate lets none through: no floors, and one quick trial.
WITHOUT_FLOORS: Json = {
    "gate": {"criteria": {"precision": None, "recall": None}},
    "training": {"optuna_trials": 1, "families": ["logistic_regression"]},
}


@dataclass(frozen=True)
class Stream:
    model: str
    file: str
    options: Json
    verdict: str

    @property
    def data(self) -> Json:
        return {"source": "file", "path": str(SHARED / self.file), "time": "@row", **self.options}


STREAMS = (
    Stream("electricity-lags", "elec2/electricity-lags.csv.gz", {"label": "class"}, "pass"),
    Stream(
        "electricity-normalized",
        "elec2/electricity-normalized.csv.gz",
        {"label": "class", "positive": "UP"},
        "fail",
    ),
    Stream(
        "bank-marketing",
        "bank-marketing/bank-additional-full.csv.gz",
        {"label": "y", "positive": "yes", "delimiter": ";"},
        "fail",
    ),
)


def main() -> None:
    missing = [str(SHARED / stream.file) for stream in STREAMS if not (SHARED / stream.file).is_file()]
    if missing:
        print(f"datasets: skipped, the real data sets are not there: {', '.join(missing)}")
        sys.exit(0)
    with report("datasets") as told, running() as service:
        for stream in STREAMS:
            if stream.verdict == "pass":
                judge(service, told, stream)
            else:
                refuse(service, told, stream)


def judge(service: Service, told: Report, stream: Stream) -> Json:
    """Trains with the runbook's defaults and tells the verdict and what decided it."""
    define(service, stream, prerequisites={"min_new_samples": 0})
    began = time.monotonic()
    job = service.train(stream.model)
    took = time.monotonic() - began
    for criterion in job["gate"]["criteria"]:
        progress(f"  {criterion['name']}: {criterion['verdict']}. {criterion['reason']}")
    failed = [c["name"] for c in job["gate"]["criteria"] if c["verdict"] == "fail"]
    figures = " ".join(f"{name} {job['metrics'][name]:.3f}" for name in ("precision", "recall", "f1", "auc_roc"))
    decided = f" on {' and '.join(failed)}" if failed else ""
    told.tell(
        f"{stream.model} {job['verdict']}{decided} in {took:.0f} s ({figures})",
        job["verdict"] == stream.verdict and bool(failed) == (stream.verdict == "fail"),
    )
    return job


def refuse(service: Service, told: Report, stream: Stream) -> None:
    """First a version becomes active under a gate without floors; then the default gate judges the next one."""
    define(service, stream, prerequisites={"min_new_samples": 0}, **WITHOUT_FLOORS)
    progress(f"{stream.model}: version {service.train(stream.model)['version']} passed a gate without floors")
    service.api.post("/model/reload", {"model": stream.model, "reason": "a version to be left alone"})
    before = service.slots(stream.model)
    judge(service, told, stream)
    after = service.slots(stream.model)
    untouched = before["active"] == 1 and all(before[name] == after[name] for name in SLOTS)
    told.tell(f"v{after['active']} active {'untouched' if untouched else 'CHANGED'}", untouched)


def define(service: Service, stream: Stream, **rest: Any) -> None:
    service.define(stream.model, stream.data, split={"by": "time"}, **rest)


if __name__ == "__main__":
    main()
