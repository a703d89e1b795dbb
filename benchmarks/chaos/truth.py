"""What the database and the store say once everything has come to rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psycopg
from psycopg.rows import class_row

from app import runtimes
from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt
from app.runtimes.rows import to_batch
from benchmarks.chaos.history import Json


@dataclass(frozen=True)
class Job:
    """`note` holds the idempotency key of the trigger that made it; `finished` is in seconds since the epoch."""

    id: int
    model: str
    state: str
    note: str
    attempt: int
    fence: int
    version: int | None = None
    error: str | None = None
    finished: float | None = None


@dataclass(frozen=True)
class Event:
    id: int
    at: float
    kind: str
    model: str | None
    job: int | None = None
    attempt: int | None = None
    after: str | None = None


@dataclass(frozen=True)
class Version:
    model: str
    number: int
    job: int
    artifact: str


@dataclass(frozen=True)
class Change:
    """A row of `slot_history`; `after` is what its event must say."""

    id: int
    at: float
    model: str
    action: str
    reason: str | None
    active: int | None
    standby: int | None
    generation: int
    revision: int
    hold: bool = False

    @property
    def after(self) -> str:
        held = ", held" if self.hold else ""
        return f"active {self.active or '–'}, standby {self.standby or '–'}, generation {self.generation}{held}"


@dataclass(frozen=True)
class Slots:
    model: str
    active: int | None
    standby: int | None
    generation: int
    revision: int


@dataclass(frozen=True)
class Truth:
    """`keys`: idempotency key → job. `references`: (model, version, batch) → scores. `corrupt`: what does not verify.

    Every sequence is in the order in which its rows were written.
    """

    jobs: Sequence[Job] = ()
    keys: Mapping[str, int] = field(default_factory=dict)
    events: Sequence[Event] = ()
    versions: Sequence[Version] = ()
    changes: Sequence[Change] = ()
    slots: Sequence[Slots] = ()
    references: Mapping[tuple[str, int, int], bytes] = field(default_factory=dict)
    corrupt: Sequence[str] = ()


JOBS = """SELECT id, model, state, coalesce(note, '') AS note, attempt, fence, version, error->>'code' AS error,
                 extract(epoch FROM finished_at)::float8 AS finished FROM training_jobs ORDER BY id"""
EVENTS = """SELECT id, extract(epoch FROM at)::float8 AS at, kind, model, job_id AS job,
                   (evidence->>'attempt')::int AS attempt, after FROM events ORDER BY id"""
VERSIONS = "SELECT model, number, job_id AS job, artifact FROM model_versions ORDER BY model, number"
CHANGES = """SELECT id, extract(epoch FROM at)::float8 AS at, model, action, reason, active, standby, generation,
                    revision, hold_reason IS NOT NULL AS hold FROM slot_history ORDER BY id"""
SLOTS = "SELECT model, active, standby, generation, revision FROM model_slots ORDER BY model"


def read(location: str, store: Path, batches: Sequence[Sequence[Json]]) -> Truth:
    """`location` is a libpq URL. Every version is loaded once more, and answers every batch for reference."""
    with psycopg.connect(location) as connection:
        versions = connection.cursor(row_factory=class_row(Version)).execute(VERSIONS).fetchall()
        references, corrupt = _references(store, versions, batches)
        return Truth(
            jobs=connection.cursor(row_factory=class_row(Job)).execute(JOBS).fetchall(),
            keys=dict(connection.execute("SELECT key, job_id FROM idempotency_keys").fetchall()),
            events=connection.cursor(row_factory=class_row(Event)).execute(EVENTS).fetchall(),
            versions=versions,
            changes=connection.cursor(row_factory=class_row(Change)).execute(CHANGES).fetchall(),
            slots=connection.cursor(row_factory=class_row(Slots)).execute(SLOTS).fetchall(),
            references=references,
            corrupt=corrupt,
        )


def _references(
    store: Path, versions: Sequence[Version], batches: Sequence[Sequence[Json]]
) -> tuple[dict[tuple[str, int, int], bytes], list[str]]:
    answers: dict[str, list[bytes]] = {}
    corrupt = []
    for version in versions:
        try:
            if version.artifact not in answers:
                answers[version.artifact] = _answers(store, version.artifact, batches)
        except ArtifactCorrupt as error:
            corrupt.append(f"version {version.number} of {version.model}: {error}")
    references = {
        (v.model, v.number, batch): scores for v in versions for batch, scores in enumerate(answers.get(v.artifact, ()))
    }
    return references, corrupt


def _answers(store: Path, artifact: str, batches: Sequence[Sequence[Json]]) -> list[bytes]:
    folder, manifest = artifacts.verify(store, artifact)
    predictor = runtimes.load_predictor(manifest.format, folder)
    answered = [predictor.predict(to_batch(list(batch), predictor.schema))[0].scores for batch in batches]
    return [np.asarray(scores, np.float64).tobytes() for scores in answered]
