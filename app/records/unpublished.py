"""What lies in the store beside versions: answers that language models were judged by, and files that were judged and
never published."""

import time
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.registry.tables import ModelVersion
from app.training.state import TERMINAL
from app.training.tables import TrainingJob


async def artifacts_without_a_row(session: AsyncSession, store: Path, age: float) -> list[str]:
    """By digest, those that no version has, untouched for `age` seconds; 0: they stay."""
    old = _untouched(store / "artifacts", age) if age else set()
    if not old:
        return []
    of_any = await session.scalars(select(ModelVersion.artifact).where(ModelVersion.artifact.in_(old)))
    return sorted(old - set(of_any))


async def evaluations(session: AsyncSession, store: Path, leaving: Iterable[ModelVersion], age: float) -> list[str]:
    """By digest, those of versions whose files have gone or go now (`leaving`); of jobs without a version that ended
    `age` seconds ago; and of no job, untouched for as long. 0: the last two stay."""
    there = _untouched(store / "evaluations", 0.0)
    if not there:
        return []
    of_version = (ModelVersion.model == TrainingJob.model) & (ModelVersion.number == TrainingJob.version)
    ended = TrainingJob.state.in_(TERMINAL) & (TrainingJob.finished_at < clock() - seconds(age))
    query = select(TrainingJob.evaluation, ended, ModelVersion).outerjoin(ModelVersion, of_version)
    rows = (await session.execute(query.where(TrainingJob.evaluation.in_(there)))).all()
    going = {(version.model, version.number) for version in leaving}
    needed = {digest for digest, is_old, version in rows if _needed(version, going, bool(age and is_old))}
    of_none = there - {digest for digest, _, _ in rows}
    gone = there - needed - of_none
    old = of_none & _untouched(store / "evaluations", age) if age else set()
    return sorted(gone | old)


def _needed(version: ModelVersion | None, going: set[tuple[str, int]], is_old: bool) -> bool:
    if version is None:
        return not is_old
    return version.artifact_removed_at is None and (version.model, version.number) not in going


def _untouched(folder: Path, age: float) -> set[str]:
    """The digests in there that nobody wrote for so many seconds."""
    before = time.time() - age
    found = list(folder.iterdir()) if folder.is_dir() else []
    return {path.stem for path in found if path.name[0] != "." and path.stat().st_mtime <= before}
