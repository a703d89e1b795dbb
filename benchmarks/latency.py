"""From the trigger to the first stage on an idle service, of what that time is made, and what the call itself costs."""

import random
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks.data import breast_cancer
from benchmarks.report import Report, p99, progress, report, size
from benchmarks.service import Service, running, until

CALLS = 200
GOAL_SECONDS = 1.0
GOAL_CALL_SECONDS = 0.020
QUICK = {"optuna_trials": 1, "cv_folds": 2, "families": ["logistic_regression"]}


class Start(NamedTuple):
    """Seconds that the parts of one start took, in their order."""

    post_answered: float
    claimed: float
    process_started: float
    first_stage: float


def main() -> None:
    with report("latency") as told:
        with running() as service:
            from_post_to_stage(service, told, size(20))
        # No worker comes for the jobs of this one: only the call is measured.
        with running("--queues", "nobody") as service:
            calls(service, told)


def from_post_to_stage(service: Service, told: Report, count: int) -> None:
    data = breast_cancer(service.inputs / "tumours.csv")
    service.define("tumours", data, training=QUICK, prerequisites={"min_new_samples": 0})
    starts = []
    for number in range(count):
        time.sleep(random.uniform(0.5, 2.5))  # at any time between two polls of the worker
        starts.append(start(service))
        progress(f"start {number + 1}/{count}: {sum(starts[-1]):.3f} s")
    whole = median(map(sum, starts))
    told.tell(f"POST to first stage {whole:.2f} s (median of {count})", whole <= GOAL_SECONDS)
    parts = zip(Start._fields, map(median, zip(*starts, strict=True)), strict=True)
    told.tell("made of " + " + ".join(f"{name.replace('_', ' ')} {part * 1e3:.0f} ms" for name, part in parts))


def start(service: Service) -> Start:
    posted = time.time()
    job = service.trigger("tumours")
    answered = time.time()
    process = until(lambda: service.processes(f"workers.run {job} "), "the process of the attempt", every=0.01)[0]
    began = _began(process)
    service.wait_for(job)
    claimed, stage = (_at(service, job, kind) for kind in ("job.started", "stage.started"))
    # The worker may have claimed before the answer came back.
    return Start(answered - posted, claimed - answered, began - claimed, stage - began)


def calls(service: Service, told: Report) -> None:
    """Each kind of answer by itself; what would make the next call another kind is undone in between, untimed."""
    service.define("tumours", breast_cancer(service.inputs / "tumours.csv"), prerequisites={"min_new_samples": 1})
    accepted, coalesced = [], []
    for _ in range(CALLS):
        accepted.append(_timed(service))
        coalesced.append(_timed(service))
        service.api.post(f"/training/jobs/{service.api.get('/training/status')['job_id']}/cancel")
    for kind, seconds in (("accepted", accepted), ("coalesced", coalesced)):
        figure = f"{CALLS} calls {kind}: p99 {p99(seconds) * 1e3:.1f} ms (median {median(seconds) * 1e3:.1f})"
        told.tell(figure, p99(seconds) <= GOAL_CALL_SECONDS)


def _timed(service: Service) -> float:
    began = time.perf_counter()
    service.trigger("tumours")
    return time.perf_counter() - began


def _at(service: Service, job: int, kind: str) -> float:
    return datetime.fromisoformat(service.events(job, kind)[0]["at"]).timestamp()


def _began(process: psutil.Process) -> float:
    """When a process began, to 10 ms: psutil's own figure is off by up to a second, as the boot time that it adds."""
    ticks = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / 100


if __name__ == "__main__":
    main()
