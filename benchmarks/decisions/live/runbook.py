"""Runbook 003, "Simulate Low Performance" and "Manual Test": low accept rates, one check by hand, then by itself."""

import json
import time
from collections.abc import Iterator

from app.cli.client import Json
from benchmarks.decisions import Figure
from benchmarks.decisions.live.traffic import ROWS, Model, refit
from benchmarks.service import until

LOW = (0.55, 0.40, 0.45)
# So many looks after the first breach, and there must still be one job.
LOOKS = 5
MORE_ROWS = ROWS + 500
# Since the first version was trained, and after the job that the monitor makes.
COOLDOWN = {"cooldown_minutes": 0.3}


def monitors(minutes: float) -> Json:
    return {"acceptance": {"kind": "acceptance", "every_minutes": minutes}}


def prepare(model: Model) -> None:
    """An active version. Its monitor looks each hour, as the runbook's does."""
    model.define(monitors=monitors(60))
    model.train()
    model.reload()


def follow(model: Model) -> Iterator[Figure]:
    yield from _by_hand(model)
    yield from _by_itself(model)


def _by_hand(model: Model) -> Iterator[Figure]:
    silent = _check(model)
    for cycle, rate in enumerate(LOW, start=1):
        refit(model.service, "report", "learning", str(rate), "-m", model.name, "--cycle", str(cycle))
    model.service.api.post("/metrics/learning", {"model": model.name, "cycle": 3, "accept_rate": LOW[-1]})
    found = _check(model)
    told = f"refit monitors check: {silent['state']} without data, then {found['state']}: {found['reason'].rstrip('.')}"
    numbers = found["numbers"]
    right = (silent["state"], found["state"], numbers["rates"]) == ("unknown", "breached", list(LOW[::-1]))
    yield Figure(told, right)


def _by_itself(model: Model) -> Iterator[Figure]:
    """Nobody asks: CHECK_INTERVAL_MIN is reduced, as the runbook says, and the next cycle is waited for."""
    service, began = model.service, time.monotonic()
    # Of the same rows would come the same bytes, which nobody stages.
    model.write(rows=MORE_ROWS)
    model.define(monitors=monitors(1 / 60), triggers=COOLDOWN)
    job = until(lambda: _triggered(model), "the trigger to fire", seconds=120)[0]
    seconds = time.monotonic() - began
    numbers = job["because"]["acceptance"]["numbers"]
    right = (job["reason"], numbers["cycles"], round(numbers["mean"], 4)) == (
        f"acceptance: {job['because']['acceptance']['reason']}",
        len(LOW),
        round(sum(LOW) / len(LOW), 4),
    )
    yield Figure(f"it fires by itself after {seconds:.1f} s: job {job['job_id']}, {job['reason'].rstrip('.')}", right)
    ended = service.wait_for(job["job_id"])
    looks = len(_looks(model))
    until(lambda: len(_looks(model)) >= looks + LOOKS, "more looks")
    jobs, events = _triggered(model), service.api.pages("/events", 100, model=model.name, kind="monitor.breached")
    known = [event for event in events if event["evidence"]["numbers"] == numbers]
    told = f"GET /events has {len(events)} monitor.breached with the numbers; {len(jobs)} job after {LOOKS} more looks"
    yield Figure(told, bool(known) and len(jobs) == 1 and ended["status"] == "completed")


def _check(model: Model) -> Json:
    """A single check, which reports and triggers nothing: the runbook's CLI mode."""
    told = json.loads(refit(model.service, "monitors", "check", model.name, "--look", "--json"))
    check: Json = next(each for each in told["checks"] if each["monitor"] == "acceptance")
    return check


def _triggered(model: Model) -> list[Json]:
    jobs = model.service.api.pages("/training/jobs", 100, model=model.name)
    return [job for job in jobs if job["trigger"] == "monitor"]


def _looks(model: Model) -> list[Json]:
    return model.service.api.pages("/monitoring/checks", 200, model=model.name, monitor="acceptance")
