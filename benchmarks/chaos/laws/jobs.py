"""Truths 1 to 4: nothing accepted is lost, a key is a job, a job has one runner, cancelled means stopped."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from benchmarks.chaos.history import History, Operation
from benchmarks.chaos.laws.violation import Violation
from benchmarks.chaos.truth import Event, Job, Truth

TERMINAL = ("completed", "failed", "cancelled")
ENDS = tuple(f"job.{state}" for state in TERMINAL)
# What a job may die of in the storm; anything else is a fault of the code.
EXPLAINED = ("worker_lost", "disk_full")
# What may follow what in the events of a job.
LIFE = {
    None: ("job.accepted",),
    "job.accepted": ("job.started", "job.cancelled"),
    "job.started": ("job.requeued", *ENDS),
    "job.requeued": ("job.started", "job.cancelled"),
}


def every_job_ends(history: History, truth: Truth) -> Iterator[Violation]:
    """Every job that a caller was told of exists, and every job has come to an end that the faults explain."""
    jobs = {job.id: job for job in truth.jobs}
    for operation in _triggered(history):
        job = jobs.get(operation.told["job_id"])
        if job is None or job.model != operation.asked["model"]:
            yield Violation(f"job {operation.told['job_id']} was promised and is lost", (operation, job))
    for job in truth.jobs:
        if job.state not in TERMINAL:
            yield Violation(f"job {job.id} never ended", (job, *_events_of(truth, job.id)))
        if job.state == "failed" and job.error not in EXPLAINED:
            yield Violation(f"job {job.id} failed with {job.error}, which no fault explains", (job,))


def a_key_is_one_job(history: History, truth: Truth) -> Iterator[Violation]:
    """Whoever asks with the same idempotency key is told of the same job, and the key made at most that one."""
    answers: dict[str, list[Operation]] = defaultdict(list)
    for operation in _triggered(history):
        answers[operation.asked["Idempotency-Key"]].append(operation)
    for key, operations in answers.items():
        named = {operation.told["job_id"] for operation in operations} | {truth.keys.get(key)}
        if len(named) > 1:
            yield Violation(f"key {key} stands for {named}", tuple(operations))
        if len([o for o in operations if o.told["outcome"] == "accepted"]) > 1:
            yield Violation(f"key {key} was accepted more than once", tuple(operations))
    made: dict[str, list[Job]] = defaultdict(list)
    for job in truth.jobs:
        made[job.note].append(job)
    for key, jobs in made.items():
        if len(jobs) > 1:
            yield Violation(f"key {key} made {len(jobs)} jobs", tuple(jobs))


def a_job_has_one_runner(history: History, truth: Truth) -> Iterator[Violation]:
    """Attempts follow one another, each begun after the one before was taken back; no two of them advance at once."""
    for job in truth.jobs:
        told = _events_of(truth, job.id)
        life = [event for event in told if event.kind in LIFE or event.kind in ENDS]
        for before, after in pairwise([None, *life]):
            assert after is not None
            if after.kind not in LIFE.get(before.kind if before else None, ()):
                yield Violation(f"job {job.id}: {after.kind} after {before and before.kind}", tuple(life))
        starts = [event.attempt for event in life if event.kind == "job.started"]
        if starts != list(range(1, job.attempt + 1)) or job.fence < job.attempt:
            yield Violation(f"job {job.id} counts {job.attempt} attempts, fence {job.fence}", (job, *life))
        yield from _losers_that_wrote(job, told)
    for number, seconds in history.together.items():
        yield Violation(f"two processes of job {number} advanced side by side for {seconds:.1f} s")


def a_job_makes_one_version(_: History, truth: Truth) -> Iterator[Violation]:
    """A completed job has published one version, any other none; versions of a model are numbered without gaps."""
    for job in truth.jobs:
        made = [version for version in truth.versions if version.job == job.id]
        expected = [job.version] if job.state == "completed" else []
        if [version.number for version in made] != expected:
            yield Violation(f"job {job.id} is {job.state} and made {len(made)} versions", (job, *made))
    numbers: dict[str, list[int]] = defaultdict(list)
    for version in truth.versions:
        numbers[version.model].append(version.number)
    for model, found in numbers.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield Violation(f"the versions of {model} are numbered {found}")


def cancelled_means_stopped(history: History, truth: Truth) -> Iterator[Violation]:
    """Once a job is said to be over, none of its processes runs any more."""
    for job in truth.jobs:
        seen = history.last_seen.get(job.id, 0.0)
        if job.state == "cancelled" and job.finished is not None and seen > job.finished:
            yield Violation(f"a process of job {job.id} ran {seen - job.finished:.2f} s after it was cancelled", (job,))


def what_is_told_of_a_job_is_true(history: History, truth: Truth) -> Iterator[Violation]:
    """A job that was said to have ended in some way has ended in that way."""
    jobs = {job.id: job for job in truth.jobs}
    for operation in history.of("status"):
        if operation.status != 200:
            continue
        job, status = jobs.get(operation.told["job_id"]), operation.told["status"]
        if job is None or (status in TERMINAL and status != job.state):
            yield Violation(f"job {operation.told['job_id']} was said to be {status}", (operation, job))


def what_was_lost_runs_again(history: History, truth: Truth) -> Iterator[Violation]:
    """A job that lost its runner was taken up again, or ended because that was its last attempt."""
    ended = {job.id for job in truth.jobs if job.state in TERMINAL}
    for loss in history.losses:
        if loss.job not in ended:
            yield Violation(f"job {loss.job} lost its runner and never ended", (loss, *_events_of(truth, loss.job)))


def _losers_that_wrote(job: Job, told: Sequence[Event]) -> Iterator[Violation]:
    """A stage that is told by an attempt which was not the running one at that moment."""
    running: int | None = None
    for event in told:
        if event.kind in LIFE or event.kind in ENDS:
            running = event.attempt if event.kind == "job.started" else None
        elif event.kind.startswith("stage.") and event.attempt != running:
            yield Violation(f"job {job.id}: attempt {event.attempt} told a stage and was not the runner", (event,))


def _triggered(history: History) -> list[Operation]:
    return [operation for operation in history.of("trigger") if operation.status in (200, 202)]


def _events_of(truth: Truth, job: int) -> list[Event]:
    return [event for event in truth.events if event.job == job]
