"""What is thrown away, and when: logs and curves, checkpoints, what killed attempts left, files of versions that never
served. The record itself, every row of a version and every snapshot stay.

The answers that a language model was judged by go with its files; those of a job that left no version, and files that
were judged and never published, go when its checkpoints would.

The rows say first, in one transaction, what has gone; the folders go after its commit. Who dies in between leaves
folders that the next hour takes. A folder is renamed before it is emptied, so nobody ever finds half of one.
"""

import asyncio
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db import clock, seconds
from app.evaluation.kept import path_of
from app.events.record import REFIT, record
from app.records import unpublished
from app.records.tables import Chore
from app.registry.artifacts import folder_of
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory
from app.settings import Settings
from app.training.state import OPEN, TERMINAL
from app.training.tables import JobLog, JobMetric, TrainingJob

log = logging.getLogger(__name__)

HOUR, DAY = 3_600.0, 86_400.0
CHORE = "retention"
# A transaction of so many jobs takes seconds, not minutes; the next hour takes the next ones.
MOST_JOBS = 200
GOING = ".going"


@dataclass(frozen=True)
class Leaving:
    """What goes: jobs whose logs and curves do, with the rows; folders by the job, artifacts by their digest."""

    jobs: list[int] = field(default_factory=list)
    log_lines: int = 0
    metric_points: int = 0
    checkpoints: list[int] = field(default_factory=list)
    staging: list[int] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    evaluations: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {name: value if isinstance(value, int) else len(value) for name, value in vars(self).items()}


async def plan(session: AsyncSession, settings: Settings) -> Leaving:
    """What would go now; changes nothing."""
    store = settings.store
    jobs = await _jobs_with_logs(session, settings.retain_log_days)
    checkpoints = await _ended(session, _numbers(store / "checkpoints"), settings.retain_checkpoint_days * DAY)
    staging = await _ended(session, _numbers(store / "staging"), settings.retain_staging_hours * HOUR)
    versions = await _never_served(session, settings.retain_artifact_days)
    never = await unpublished.artifacts_without_a_row(session, store, settings.retain_checkpoint_days * DAY)
    artifacts = [*await _removable(session, store, versions), *never]
    evaluations = await unpublished.evaluations(session, store, versions, settings.retain_checkpoint_days * DAY)
    return Leaving(
        jobs=jobs,
        log_lines=await _count(session, JobLog, jobs),
        metric_points=await _count(session, JobMetric, jobs),
        checkpoints=checkpoints,
        staging=staging,
        artifacts=artifacts,
        evaluations=evaluations,
        versions=[f"{version.model}/{version.number}" for version in versions],
        folders=[
            *(store / "checkpoints" / str(job) for job in checkpoints),
            *(store / "staging" / str(job) for job in staging),
            *(folder_of(store, digest) for digest in artifacts),
            *(path_of(store, digest) for digest in evaluations),
        ],
    )


async def run(session: AsyncSession, settings: Settings, *, actor: str = REFIT, reason: str | None = None) -> Leaving:
    """Takes the rows, and names the folders for `remove_folders` after the commit. An event tells how much went."""
    await _lock_slots(session, settings)
    leaving = await plan(session, settings)
    for table in (JobLog, JobMetric):
        await session.execute(delete(table).where(table.job_id.in_(leaving.jobs)))
    for version in leaving.versions:
        model, _, number = version.rpartition("/")
        one = (ModelVersion.model == model) & (ModelVersion.number == int(number))
        await session.execute(update(ModelVersion).where(one).values(artifact_removed_at=clock()))
    if leaving != Leaving():
        names = ("retain_log_days", "retain_checkpoint_days", "retain_staging_hours", "retain_artifact_days")
        evidence = leaving.counts() | {name: getattr(settings, name) for name in names}
        await record(session, kind="retention.ran", actor=actor, reason=reason, evidence=evidence)
    return leaving


async def run_hourly(session: AsyncSession, settings: Settings) -> list[Path]:
    """The folders to remove once the caller has committed; none where less than an hour has gone by, anywhere."""
    if not await _is_due(session):
        return []
    return (await run(session, settings)).folders


async def remove_folders(folders: list[Path]) -> None:
    """Whatever cannot be removed is told and tried again in an hour."""
    for folder in folders:
        try:
            await asyncio.to_thread(_remove, folder)
        except OSError as error:
            log.warning("%s could not be removed (%s); it is tried again in an hour", folder, error)


def _remove(folder: Path) -> None:
    if folder.is_file():
        folder.unlink()
        return
    going = folder.with_name(f"{folder.name}{GOING}")
    if folder.exists():
        shutil.rmtree(going, ignore_errors=True)
        folder.rename(going)
    shutil.rmtree(going)


def _numbers(folder: Path) -> list[int]:
    """The jobs that have a folder in here, those that were left half removed as well."""
    names = {path.name.removesuffix(GOING) for path in folder.iterdir()} if folder.is_dir() else set()
    return sorted(int(name) for name in names if name.isdecimal() and len(name) < 19)


async def _is_due(session: AsyncSession) -> bool:
    """True for one process an hour. Looking first: a write each second would wake the database for nothing."""
    recently = exists().where(Chore.name == CHORE, Chore.ran_at > clock() - seconds(HOUR))
    if await session.scalar(select(recently)):
        return False
    ran = insert(Chore).values(name=CHORE, ran_at=clock())
    await session.execute(ran.on_conflict_do_update(index_elements=["name"], set_={"ran_at": clock()}))
    return True


def _ended_before(job: Any, age: float) -> ColumnElement[bool]:
    before: ColumnElement[bool] = job.state.in_(TERMINAL) & (job.finished_at < clock() - seconds(age))
    return before


async def _jobs_with_logs(session: AsyncSession, days: float) -> list[int]:
    if not days:
        return []
    said = or_(exists().where(JobLog.job_id == TrainingJob.id), exists().where(JobMetric.job_id == TrainingJob.id))
    query = select(TrainingJob.id).where(_ended_before(TrainingJob, days * DAY), said)
    return list((await session.scalars(query.order_by(TrainingJob.id).limit(MOST_JOBS))).all())


async def _ended(session: AsyncSession, jobs: list[int], age: float) -> list[int]:
    """Those of `jobs` that ended so many seconds ago, and which no later job goes on with, waiting, running or ended
    since."""
    if not age or not jobs:
        return []
    later = aliased(TrainingJob)
    needed = exists().where(later.checkpoint_of == TrainingJob.id, ~_ended_before(later, age))
    query = select(TrainingJob.id).where(TrainingJob.id.in_(jobs), _ended_before(TrainingJob, age), ~needed)
    return list((await session.scalars(query.order_by(TrainingJob.id))).all())


async def _never_served(session: AsyncSession, days: float) -> list[ModelVersion]:
    """Old versions that no slot ever held. The newest of a model stays, for it may yet be staged, and so do all of a
    model that is being trained."""
    if not days:
        return []
    of_same = ModelVersion.model == SlotHistory.model
    in_a_slot = or_(*(column == ModelVersion.number for column in (SlotHistory.active, SlotHistory.standby)))
    newer = aliased(ModelVersion)
    query = select(ModelVersion).where(
        ModelVersion.created_at < clock() - seconds(days * DAY),
        ModelVersion.artifact_removed_at.is_(None),
        ~exists().where(of_same, in_a_slot),
        exists().where(newer.model == ModelVersion.model, newer.number > ModelVersion.number),
        ~exists().where(TrainingJob.model == ModelVersion.model, TrainingJob.state.in_(OPEN)),
    )
    return list((await session.scalars(query.order_by(ModelVersion.model, ModelVersion.number))).all())


async def _removable(session: AsyncSession, store: Path, leaving: list[ModelVersion]) -> list[str]:
    """The artifacts on disk of which every version has gone or goes now: two versions may share one, and a training may
    just have published it again."""
    folder = store / "artifacts"
    there = {path.name.removesuffix(GOING) for path in folder.iterdir()} if folder.is_dir() else set()
    of_any = (await session.scalars(select(ModelVersion).where(ModelVersion.artifact.in_(there)))).all()
    going = {(version.model, version.number) for version in leaving}
    trained = set(await session.scalars(select(TrainingJob.model).where(TrainingJob.state.in_(OPEN))))
    kept: set[str] = {version.artifact for version in of_any if version.model in trained}
    gone: set[str] = set()
    for version in of_any:
        is_gone = version.artifact_removed_at is not None or (version.model, version.number) in going
        (gone if is_gone else kept).add(version.artifact)
    return sorted(gone - kept)


async def _count(session: AsyncSession, table: type[JobLog | JobMetric], jobs: list[int]) -> int:
    query = select(func.count()).select_from(table).where(table.job_id.in_(jobs))
    return (await session.scalar(query) or 0) if jobs else 0


async def _lock_slots(session: AsyncSession, settings: Settings) -> None:
    """Nobody stages a version while its files are given up."""
    if settings.retain_artifact_days:
        await session.execute(select(ModelSlots.model).order_by(ModelSlots.model).with_for_update())
