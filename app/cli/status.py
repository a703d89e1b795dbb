import click

from app.cli.arguments import examples, model_argument, waiting_options
from app.cli.client import Api, connect
from app.cli.following import conclude, show_end, show_job, wait_for
from app.cli.output import emit, json_option
from app.cli.progress import Job


@click.command(epilog=examples("refit status fraud", "refit status -w --job 12", "refit status --json | jq .stage"))
@model_argument
@click.option("--job", type=click.IntRange(1), help="This job, whatever its model.")
@waiting_options(("-w", "--watch"), "Follow the job to its end.")
@json_option
def status(model: str | None, job: int | None, wait: bool, timeout: float | None) -> None:
    """The running or newest job of MODEL.

    With -w the exit code tells the end, as with `refit trigger --wait`; Ctrl-C leaves the job alone.
    """
    api = connect()
    found = read_job(api, model, job)
    if wait:
        conclude(wait_for(api, found["job_id"], timeout))
    else:
        emit(found, _show)


def read_job(api: Api, model: str | None, job: int | None) -> Job:
    found: Job = api.get("/training/status", model=model, job_id=job)
    return found


def _show(job: Job) -> None:
    show_job(job)
    if job["gate"] or job["plan"]:
        click.echo()
        show_end(job)
