from typing import Any

import click

from app.cli.arguments import Number, examples, job_argument, limit_option, waiting_options
from app.cli.client import Api, connect
from app.cli.failures import Exit, Failure
from app.cli.following import conclude, detachable, patient, show_job, wait_for, what_of
from app.cli.output import UNKNOWN, as_json, emit, json_option, printable, say, share, table, told, wants_json
from app.cli.progress import Job, seconds_of

LINES = 1_000
STATES = ("queued", "running", "completed", "failed", "cancelled")


@click.group()
def jobs() -> None:
    """Trainings that were asked for."""


@jobs.command("list", epilog=examples("refit jobs list", "refit jobs list --model fraud --status failed"))
@click.option("-m", "--model", help="Of this model only.")
@click.option("--status", type=click.Choice(STATES))
@limit_option
@json_option
def list_jobs(model: str | None, status: str | None, limit: int) -> None:
    """Jobs, newest first."""
    found = connect().pages("/training/jobs", limit, model=model, status=status)
    headers = (
        "job",
        "model",
        "status",
        "asked for",
        "stage",
        "done",
        "verdict",
        "version",
        "trigger",
        "created",
        "took",
    )
    emit(found, lambda rows: table(headers, map(_row, rows)))


@jobs.command(epilog=examples("refit jobs show 12"))
@job_argument
@json_option
def show(job: int) -> None:
    """Everything about one job."""
    emit(connect().get(f"/training/jobs/{job}"), show_job)


@jobs.command(epilog=examples("refit jobs logs 12 -f", "refit jobs logs 12 --json | jq -r .line"))
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@json_option
def logs(job: int, follow: bool) -> None:
    """What a job has logged, oldest first; with --json one object a line."""
    api = connect()
    after = _print_from(api, job, after=0)
    if follow:
        with detachable(job):
            _go_on_printing(patient(api), job, after)


@jobs.command(epilog=examples("refit jobs cancel 12 --reason 'wrong data'"))
@job_argument
@click.option("--reason", help="Why; kept in the record.")
@click.option("--no-wait", is_flag=True, help="Do not wait until its processes are gone.")
@click.option("--timeout", type=Number(min=0, min_open=True), help="Seconds to wait; then exit code 8.")
@json_option
def cancel(job: int, reason: str | None, no_wait: bool, timeout: float | None) -> None:
    """Stop a job. Its checkpoint is kept; this returns when its processes are gone."""
    api = connect()
    found: Job = api.post(f"/training/jobs/{job}/cancel", {"reason": reason})
    if not (no_wait or found["is_terminal"]):
        found = wait_for(api, job, timeout)
    if found["is_terminal"] and found["status"] != "cancelled":
        raise Failure(f"Job {job} had {found['status']} before it was stopped.", Exit.CONFLICT, document=found)
    emit(found, lambda ended: click.echo("cancelled" if ended["is_terminal"] else "cancelling"))
    say(f"to go on from its checkpoint: refit jobs resume {job}")


@jobs.command(epilog=examples("refit jobs resume 12 --wait"))
@job_argument
@waiting_options(("-w", "--wait"), "Follow the new job to its end.")
@json_option
def resume(job: int, wait: bool, timeout: float | None) -> None:
    """Go on from the checkpoint of a failed or cancelled job, as a new one."""
    api = connect()
    found: Job = api.post(f"/training/jobs/{job}/resume")
    say(f"job {found['job_id']} resumes job {job}")
    if wait:
        conclude(wait_for(api, found["job_id"], timeout))
    else:
        emit(found, lambda new: click.echo(new["job_id"]))


def _row(job: Job) -> tuple[Any, ...]:
    return (
        job["job_id"],
        job["model"],
        "cancelling" if job["cancelling"] else job["status"],
        what_of(job),
        job["stage"],
        share(job["progress"]),
        job["verdict"],
        job["version"],
        job["trigger"],
        job["created_at"],
        _took(job),
    )


def _took(job: Job) -> str:
    return f"{seconds_of(job):.1f} s" if job["started_at"] and job["finished_at"] else UNKNOWN


def _print_from(api: Api, job: int, after: int) -> int:
    """Prints the lines after the id `after`; the id of the last one."""
    while True:
        page = api.get(f"/training/jobs/{job}/logs", after=after, limit=LINES)
        for line in page["data"]:
            shown = as_json(line, indent=None) if wants_json() else f"{told(line['at'])}  {printable(line['line'])}"
            click.echo(shown)
        after = page["data"][-1]["id"] if page["data"] else after
        if not page["has_more"]:
            return after


def _go_on_printing(api: Api, job: int, after: int) -> None:
    while not _ended(api, job):
        after = _print_from(api, job, after)
    _print_from(api, job, after)


def _ended(api: Api, job: int) -> bool:
    """Answers when the job has ended, or after a second."""
    return bool(api.get("/training/status", job_id=job, wait=1)["is_terminal"])
