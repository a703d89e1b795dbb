"""A job from here to its end: follow it, tell how it ended, and leave with the exit code that says so."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from app.cli.client import Api
from app.cli.failures import Exit, Failure
from app.cli.gate_table import show_gate
from app.cli.output import emit, record, say, share, told, wants_json
from app.cli.progress import Job, progress, stage_of

# The service answers a long poll when something changes, and at the latest after this long.
POLL_SECONDS = 30.0
AWAY_SECONDS = 60.0


def wait_for(api: Api, job_id: int, timeout: float | None = None) -> Job:
    """The job once it has ended, with its progress on stderr meanwhile.

    Raises Failure: TIMED_OUT after `timeout` seconds, DETACHED on Ctrl-C; the job runs on in either case.
    """
    with detachable(job_id), progress() as show:
        for job in changes(patient(api), job_id, timeout):
            show(job)
    return job


def patient(api: Api) -> Api:
    """For whoever follows: the service may restart meanwhile, the job does not mind."""
    return replace(api, patience=AWAY_SECONDS)


def changes(api: Api, job_id: int, timeout: float | None = None) -> Iterator[Job]:
    """The job as it is now, and again whenever it has changed, until it has ended."""
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    seen: str | None = None
    job: Job = {}
    while not job.get("is_terminal"):
        left = deadline - time.monotonic()
        if job and left <= 0:
            raise _timed_out(job)
        response = _poll(api, job_id, seen, min(POLL_SECONDS, left) if job else 0.0)
        if response.status_code != 304:
            job, seen = response.json(), response.headers.get("etag")
            yield job


@contextmanager
def detachable(job_id: int) -> Iterator[None]:
    """Ctrl-C leaves the job alone, and says how to come back to it."""
    try:
        yield
    except KeyboardInterrupt:
        back, stop = f"refit status -w --job {job_id}", f"refit jobs cancel {job_id}"
        message = f"detached; job {job_id} runs on. Come back: {back}; stop it: {stop}"
        raise Failure(message, Exit.DETACHED) from None


def conclude(job: Job) -> None:
    """Prints how the job ended. Raises Failure where it is not with a version that passed, or a plan."""
    failure = failure_of(job)
    if failure is None:
        emit(job, show_end)
        return
    if not wants_json():
        show_end(job)
    raise failure


def show_end(job: Job) -> None:
    """The gate's table and the new version; of a dry run its plan; of anything else the job itself."""
    if job["gate"]:
        show_gate(job["gate"])
        say(f"job {job['job_id']} made version {job['version']} of {job['model']}: {job['verdict']}")
    elif job["plan"]:
        record(job["plan"] | {"confirmation": job["confirmation"]})
    else:
        show_job(job)


def show_job(job: Job) -> None:
    """Everything about a job, as far as it is known."""
    error = job["error"] or {}
    fields: dict[str, Any] = {
        "job": job["job_id"],
        "model": job["model"],
        "status": "cancelling" if job["cancelling"] else job["status"],
        "asked for": what_of(job),
        "stage": job["stage"],
        "progress": share(job["progress"]),
        "note": job["progress_note"],
        "seconds left": job["eta_seconds"],
        "attempt": f"{job['attempt']} of {job['max_attempts']}",
        "verdict": job["verdict"],
        "version": job["version"],
        "data version": job["data_version"],
        "preferences": job["preference_version"],
        "params": ", ".join(f"{name}={told(value)}" for name, value in job["params"].items()),
        "queue": f"{job['queue']}, {job['priority']} priority",
        "asked by": f"{job['actor']} ({job['trigger']}{', forced' if job['forced'] else ''})",
        "reason": job["reason"],
        "remark": job["note"],
        "goes on from": job["resumes"] and f"job {job['resumes']}",
        "confirms": job["confirms"] and f"the plan of job {job['confirms']}",
        "confirmation": job["confirmation"],
        "created": job["created_at"],
        "started": job["started_at"],
        "finished": job["finished_at"],
        "error": error and f"{error['code']}: {error['message']}",
        "remedy": error.get("remedy"),
    }
    record(fields)


def what_of(job: Job) -> str | None:
    """A dry run, or the stages that were asked for; None: a whole training."""
    asked = ["dry run"] if job["dry_run"] else []
    return ", ".join([*asked, *(job["stages"] or ())]) or None


def _poll(api: Api, job_id: int, seen: str | None, wait: float) -> httpx.Response:
    return api.call(
        "GET",
        "/training/status",
        params={"job_id": job_id, "wait": max(0.0, round(wait, 3))},
        headers={"If-None-Match": seen} if seen else {},
        answer_seconds=wait + 15.0,
        patience=api.patience,
    )


def _timed_out(job: Job) -> Failure:
    message = f"Job {job['job_id']} has not ended in time; it runs on ({stage_of(job)}, {share(job['progress'])})."
    remedy = f"Come back: refit status -w --job {job['job_id']}"
    return Failure(message, Exit.TIMED_OUT, remedy=remedy, document=job)


def failure_of(job: Job) -> Failure | None:
    """Why an ended job is not what was hoped for; None where it made a version that passed, or a plan."""
    id, error = job["job_id"], job["error"]
    if job["status"] == "failed":
        message = f"Job {id} failed ({error['code']}): {error['message']}"
        remedy = f"{error['remedy']} Its logs: refit jobs logs {id}"
        return Failure(message, Exit.JOB_FAILED, remedy=remedy, document=job)
    if job["status"] == "cancelled":
        remedy = f"To go on from its checkpoint: refit jobs resume {id}"
        return Failure(f"Job {id} was cancelled.", Exit.JOB_FAILED, remedy=remedy, document=job)
    if job["verdict"] not in (None, "pass"):
        message = f"The gate's verdict on version {job['version']} is {job['verdict']}."
        return Failure(message, Exit.GATE_REFUSED, remedy="What is active stays active.", document=job)
    return None
