"""The laws of `make chaos` let an honest record pass, and catch each forged one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from benchmarks.chaos import laws
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.history import CUT_OFF, Breach, History, Loss, Operation, Prediction, Window
from benchmarks.chaos.schedule import plan
from benchmarks.chaos.truth import Change, Event, Job, Slots, Truth, Version

ONE, TWO = (np.array(scores).tobytes() for scores in ([0.1, 0.9], [0.2, 0.8]))


@dataclass
class Record:
    """What a client saw and what the database says."""

    history: History
    truth: Truth

    def alter(self, **changed: Any) -> None:
        self.truth = replace(self.truth, **changed)

    def broken(self) -> set[str]:
        return {law for law, _ in laws.broken(self.history, self.truth)}


def operation(kind: str, at: float, asked: dict[str, Any], told: dict[str, Any], status: int | None = 200) -> Operation:
    return Operation(kind, "client", "api-1", at, at + 0.1, status, asked, told)


def prediction(at: float, generation: int, **changed: Any) -> Prediction:
    honest = Prediction(
        *("api-1", "fraud", 0, at, at + 0.01, 200),
        version=generation,
        generation=generation,
        scores=(ONE, TWO)[generation - 1],
    )
    return replace(honest, **changed)


def reload(at: float, generation: int, reason: str) -> Operation:
    told = {"changed": True, "missing": [], "generation": generation}
    return operation("reload", at, {"model": "fraud", "reason": reason}, told)


def trigger(at: float, key: str, job: int, outcome: str) -> Operation:
    return operation("trigger", at, {"model": "fraud", "Idempotency-Key": key}, {"job_id": job, "outcome": outcome})


@pytest.fixture
def record() -> Record:
    """Two jobs, the first of them taken up twice; two swaps; predictions before and after each."""
    lives = [
        (1, "job.accepted", None),
        (1, "job.started", 1),
        (1, "stage.started", 1),
        (1, "job.requeued", None),
        (1, "job.started", 2),
        (1, "job.completed", None),
        (2, "job.accepted", None),
        (2, "job.started", 1),
        (2, "job.completed", None),
        (3, "job.accepted", None),
        (3, "job.cancelled", None),
    ]
    changes = [
        Change(1, 10.0, "fraud", "staged", "passed the gate", None, 1, 0, 1),
        Change(2, 20.05, "fraud", "reloaded", "first", 1, None, 1, 2),
        Change(3, 21.0, "fraud", "staged", "passed the gate", 1, 2, 1, 3),
        Change(4, 30.05, "fraud", "reloaded", "second", 2, 1, 2, 4),
    ]
    swapped = [(f"slots.{change.action}", change.after) for change in changes]
    events = [Event(i, float(i), kind, "fraud", job, attempt) for i, (job, kind, attempt) in enumerate(lives)]
    events += [Event(100 + i, 0.0, kind, "fraud", after=after) for i, (kind, after) in enumerate(swapped)]
    truth = Truth(
        jobs=[
            Job(1, "fraud", "completed", "a", 2, 3, version=1, finished=9.0),
            Job(2, "fraud", "completed", "b", 1, 1, version=2, finished=19.0),
            Job(3, "fraud", "cancelled", "c", 0, 0, finished=20.0),
        ],
        keys={"a": 1, "b": 2},
        events=events,
        versions=[Version("fraud", 1, 1, "one"), Version("fraud", 2, 2, "two")],
        changes=changes,
        slots=[Slots("fraud", 2, 1, 2, 4)],
        references={("fraud", 1, 0): ONE, ("fraud", 2, 0): TWO},
    )
    operations = [
        trigger(1.0, "a", 1, "accepted"),
        trigger(1.5, "a", 1, "replayed"),
        trigger(11.0, "b", 2, "accepted"),
        operation("status", 12.0, {}, {"job_id": 1, "status": "completed"}),
        reload(20.0, 1, "first"),
        reload(30.0, 2, "second"),
    ]
    predictions = [prediction(25.0, 1), prediction(30.05, 1), prediction(30.06, 2), prediction(31.0, 2)]
    return Record(History(operations=operations, predictions=predictions), truth)


def test_an_honest_record_breaks_no_law(record: Record) -> None:
    assert record.broken() == set()


Forgery = Callable[[Record], Any]


def _job(number: int, **changed: Any) -> Forgery:
    """The database says otherwise of one job."""
    return lambda record: record.alter(
        jobs=[replace(job, **changed) if job.id == number else job for job in record.truth.jobs]
    )


def _change(number: int, **changed: Any) -> Forgery:
    return lambda record: record.alter(
        changes=[replace(change, **changed) if change.id == number else change for change in record.truth.changes]
    )


def _event(job: int, kind: str, attempt: int | None = None) -> Forgery:
    """One more event of a job, after all the others."""
    return lambda record: record.alter(events=[*record.truth.events, Event(999, 99.0, kind, "fraud", job, attempt)])


def _predicted(at: float, generation: int, **changed: Any) -> Forgery:
    return lambda record: record.history.predictions.append(prediction(at, generation, **changed))


def _asked(operation: Operation) -> Forgery:
    return lambda record: record.history.operations.append(operation)


def _cut_off(record: Record) -> None:
    record.history.windows.append(Window("api-1", CUT_OFF, 40.0, 60.0))
    record.history.predictions.append(prediction(50.0, 2))


FORGED: list[tuple[str, str, Forgery]] = [
    ("a job that waits for ever", "every job ends", _job(2, state="queued")),
    ("a job that failed of nothing", "every job ends", _job(3, state="failed", error="pipeline_error")),
    ("a promised job that is not there", "every job ends", _asked(trigger(5.0, "d", 17, "accepted"))),
    ("a key with two jobs", "a key is one job", _asked(trigger(5.0, "a", 2, "replayed"))),
    ("a key that was accepted twice", "a key is one job", _asked(trigger(5.0, "b", 2, "accepted"))),
    ("a key that made two jobs", "a key is one job", _job(3, note="a")),
    ("a start without an end before it", "a job has one runner", _event(2, "job.started", 2)),
    ("two ends", "a job has one runner", _event(1, "job.failed")),
    ("an attempt that nobody counted", "a job has one runner", _job(1, attempt=1)),
    ("a stage told by a loser", "a job has one runner", _event(1, "stage.finished", 1)),
    ("two processes at once", "a job has one runner", lambda r: r.history.together.update({1: 0.4})),
    ("a version of a cancelled job", "a job makes one version", _job(2, state="cancelled")),
    ("a gap between versions", "a job makes one version", lambda r: r.alter(versions=[replace(r.truth.versions[1])])),
    ("a process after cancelled", "cancelled means stopped", lambda r: r.history.last_seen.update({3: 20.5})),
    (
        "a status that was not true",
        "what is told of a job is true",
        _asked(operation("status", 13.0, {}, {"job_id": 1, "status": "failed"})),
    ),
    ("a job that was lost for good", "what was lost runs again", lambda r: r.history.losses.append(Loss(17, 1, 5.0))),
    ("a generation that was jumped", "slots change one by one", _change(4, generation=3)),
    ("a revision that was jumped", "slots change one by one", _change(3, revision=7)),
    ("slots without a history", "slots change one by one", lambda r: r.alter(changes=r.truth.changes[:-1])),
    ("a change without an event", "every change is recorded once", lambda r: r.alter(events=r.truth.events[:-1])),
    ("a swap that was done twice", "a swap is done once", _change(4, reason="first")),
    ("a swap that nobody asked for", "a swap is done once", _change(4, reason="nobody")),
    ("a swap before it was asked for", "a swap is done once", _change(4, at=29.0)),
    (
        "a refusal that was done",
        "a swap is done once",
        lambda r: r.history.operations.__setitem__(-1, replace(r.history.operations[-1], status=409)),
    ),
    ("a batch that was dropped", "every batch is answered", _predicted(40.0, 2, status=None)),
    ("a batch that was refused", "every batch is answered", _predicted(40.0, 2, status=503)),
    ("a version that was not active", "answers name what was active", _predicted(40.0, 2, version=1, scores=ONE)),
    ("a mixed batch", "a batch has one version", _predicted(40.0, 2, scores=ONE[:8] + TWO[8:])),
    ("a generation that went back", "generations never go back", _predicted(40.0, 1, stale=True)),
    ("an older answer after the swap", "a swap is true everywhere", _predicted(40.0, 1, replica="api-2")),
    ("one that is cut off and silent", "who is cut off says so", _cut_off),
    ("a file that was changed", "artifacts are whole", lambda r: r.alter(corrupt=["version 1 of fraud"])),
    (
        "a process that died",
        "only what is killed dies",
        lambda r: r.history.breaches.append(Breach("only what is killed dies", "x")),
    ),
]


@pytest.mark.parametrize(("law", "forge"), [forged[1:] for forged in FORGED], ids=[forged[0] for forged in FORGED])
def test_a_law_catches(law: str, forge: Forgery, record: Record) -> None:
    forge(record)
    assert law in record.broken()


def test_a_replica_that_was_killed_may_lose_the_batch_that_it_had(record: Record) -> None:
    record.history.windows.append(Window("api-1", "killed", 40.0, 42.0))
    _predicted(39.995, 2, status=None)(record)
    assert record.broken() == set()


def test_a_stale_replica_may_answer_with_what_it_has(record: Record) -> None:
    _predicted(40.0, 1, replica="api-2", stale=True)(record)
    assert record.broken() == set()


def test_a_swap_whose_answer_was_lost_may_have_been_done_or_not(record: Record) -> None:
    record.history.operations[-1] = replace(record.history.operations[-1], status=None, told={})
    assert record.broken() == set()
    _asked(operation("reload", 35.0, {"model": "fraud", "reason": "third"}, {}, None))(record)
    assert record.broken() == set()


def test_the_same_seed_draws_the_same_storm_and_every_kind_comes_once_a_round() -> None:
    drawn = plan(FAULTS, 2 * len(FAULTS), 7, brief=False)
    assert drawn == plan(FAULTS, 2 * len(FAULTS), 7, brief=False)
    assert drawn != plan(FAULTS, 2 * len(FAULTS), 8, brief=False)
    assert {one.fault.name for one in drawn[: len(FAULTS)]} == {kind.name for kind in FAULTS}
