"""A job's progress on stderr: a bar on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from app.cli.output import printable, say, share

Job = dict[str, Any]
Show = Callable[[Job], None]

# Where nothing can be drawn over, the same stage is told again after this long.
QUIET_SECONDS = 10.0


@contextmanager
def progress() -> Iterator[Show]:
    """Yields the function to call with each news of the job."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _lines()


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields the function to call with how many of `total` are done: a bar on a terminal, nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - for terminals only
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - ditto

    columns = (TextColumn(what, markup=False), BarColumn(bar_width=30), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def stage_of(job: Job) -> str:
    """Where the job stands, in a word."""
    if job["cancelling"]:
        return "cancelling"
    return str(job["stage"] or "starting") if job["status"] == "running" else str(job["status"])


def seconds_of(job: Job) -> float:
    """How long an ended job ran."""
    started, finished = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return (finished - started).total_seconds()


def _lines() -> Show:
    last, told_at = "", float("-inf")

    def show(job: Job) -> None:
        nonlocal last, told_at
        stage, now = stage_of(job), time.monotonic()
        if stage == last and now - told_at < QUIET_SECONDS:
            return
        last, told_at = stage, now
        details = [share(job["progress"]), job["progress_note"], _left(job)] if job["status"] == "running" else []
        say(f"job {job['job_id']}: {'  '.join([stage, *filter(None, details)])}")

    return show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console  # noqa: PLC0415 - for terminals only
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415 - ditto

    columns = (
        SpinnerColumn(),
        TextColumn("job {task.fields[job]}  {task.fields[stage]:<12}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, job="", stage="", note="")

        def show(job: Job) -> None:
            note = "  ".join(filter(None, [printable(job["progress_note"] or ""), _left(job)]))
            bar.update(task, completed=job["progress"], job=job["job_id"], stage=printable(stage_of(job)), note=note)

        yield show


def _left(job: Job) -> str:
    seconds = job["eta_seconds"]
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"
