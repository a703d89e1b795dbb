"""The truths of the design that can be read off the tables, whatever was done to jobs and slots before."""

from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.record import REFIT
from app.events.tables import Event
from app.registry.swap import Action
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory
from app.training.state import JobState
from app.training.tables import TrainingJob


@dataclass
class Witness:
    """Looks at some models after every step, and remembers what may never change afterwards."""

    models: tuple[str, ...]
    ended: dict[int, str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)

    async def check(self, session: AsyncSession) -> None:
        await self._check_jobs(session)
        for model in self.models:
            slots = await session.get_one(ModelSlots, model)
            if slots.revision != self.revisions.get(model):
                self.revisions[model] = slots.revision
                await self._check_slots(session, slots)

    async def _check_jobs(self, session: AsyncSession) -> None:
        jobs = (await session.scalars(select(TrainingJob).where(TrainingJob.model.in_(self.models)))).all()
        published = (
            await session.scalars(select(ModelVersion.job_id).where(ModelVersion.model.in_(self.models)))
        ).all()
        for model in self.models:
            of_model = [job for job in jobs if job.model == model]
            assert sum(job.state == JobState.RUNNING for job in of_model) <= 1
            assert sum(job.state == JobState.QUEUED and job.attempt == 0 for job in of_model) <= 1
        for job in jobs:
            assert job.attempt <= job.max_attempts
            assert published.count(job.id) == (job.state == JobState.COMPLETED)
            assert self.ended.get(job.id, job.state) == job.state, "a job that had ended has moved"
            if JobState(job.state).is_terminal:
                self.ended[job.id] = job.state

    async def _check_slots(self, session: AsyncSession, slots: ModelSlots) -> None:
        model = slots.model
        of_model = select(SlotHistory).where(SlotHistory.model == model).order_by(SlotHistory.id)
        rows = (await session.scalars(of_model)).all()
        assert slots.generation >= self.generations.get(model, 0)
        self.generations[model] = slots.generation
        assert [row.revision for row in rows] == list(range(1, slots.revision + 1))
        assert sum(row.action in (Action.RELOADED, Action.ROLLED_BACK) for row in rows) == slots.generation
        # What was refused or put off has changed nothing.
        changes = Event.kind.startswith("slots.") & Event.kind.not_in(("slots.refused", "slots.put_off"))
        events = select(func.count()).where(Event.model == model, changes)
        assert await session.scalar(events) == slots.revision
        await self._check_every_swap(session, list(rows))

    async def _check_every_swap(self, session: AsyncSession, rows: list[SlotHistory]) -> None:
        """Each reload put in a version that was judged against what was active; each rollback one that was active."""
        active: int | None = None
        ever: set[int | None] = set()
        for row in rows:
            if row.action == Action.RELOADED:
                version = await session.get_one(ModelVersion, (row.model, row.active))
                assert version.incumbent == active
                assert version.verdict == "pass" or (version.verdict == "inconclusive" and row.actor != REFIT)
            if row.action == Action.ROLLED_BACK:
                assert row.active in ever
            active = row.active
            ever.add(active)
