"""What binds automatic triggers only: cooldown, weekly budget, that something changed since the last one came to
nothing, and that no candidate waits for a person."""

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import service as data
from app.data.tables import DataVersion
from app.db import clock, seconds
from app.definitions.service import Applied, trains_otherwise
from app.errors import RefitError
from app.registry.promotion import nothing_new
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory
from app.training.checks import Check
from app.training.tables import MANUAL, TRAINS, TrainingJob

WEEK_SECONDS = 7 * 86_400


async def checks(session: AsyncSession, applied: Applied, new_samples: int | None) -> list[Check]:
    """`new_samples` where they were counted already."""
    return [
        await cooldown_is_over(session, applied),
        await budget_is_left(session, applied),
        await no_candidate_waits(session, applied),
        await something_has_changed(session, applied, new_samples),
    ]


async def cooldown_is_over(session: AsyncSession, applied: Applied) -> Check:
    minutes = applied.definition.triggers.cooldown_minutes
    ended = await session.scalar(select(func.max(TrainingJob.finished_at)).where(_of(applied)))
    left = await session.scalar(select(func.extract("epoch", ended + seconds(minutes * 60) - clock()))) if ended else 0
    passed = left is None or left <= 0
    waits = f"The last training ended at {ended:%Y-%m-%d %H:%M} UTC; {minutes:g} minutes must pass." if ended else ""
    return Check(
        "cooldown",
        passed=passed,
        value=ended.isoformat() if ended else None,
        required=minutes,
        message="No cooldown runs." if passed else waits,
        remedy="Wait, or trigger by hand.",
        binds="automatic",
    )


async def budget_is_left(session: AsyncSession, applied: Applied) -> Check:
    budget = applied.definition.triggers.weekly_budget
    this_week = TrainingJob.created_at > clock() - seconds(WEEK_SECONDS)
    automatic = select(func.count()).where(_of(applied), TrainingJob.trigger != MANUAL, this_week)
    spent = await session.scalar(automatic) or 0
    return Check(
        "weekly_budget",
        passed=spent < budget,
        value=spent,
        required=budget,
        message=f"{spent} automatic trainings in the last seven days; the budget is {budget}.",
        remedy="Raise triggers.weekly_budget, or trigger by hand.",
        binds="automatic",
    )


async def something_has_changed(session: AsyncSession, applied: Applied, new_samples: int | None) -> Check:
    """What was trained and is not active is not trained again by itself on the same rows, by the same definition,
    against the same version: it would be the same once more."""
    last = await _last_automatic(session, applied)
    active = await session.scalar(select(ModelSlots.active).where(ModelSlots.model == applied.model))
    in_vain = last is not None and last.number != active
    changed = await _changes(session, applied, last, active, new_samples) if last and in_vain else []
    passed = not in_vain or bool(changed)
    since = f"since job {last.job_id} made version {last.number} (verdict {last.verdict})" if last else ""
    return Check(
        "nothing_changed",
        passed=passed,
        value=changed,
        required="new rows, another definition or another active version",
        message=f"Nothing has changed {since}." if not passed else "Nothing stands against another automatic training.",
        remedy="Wait for new rows, change the definition, or trigger by hand.",
        binds="automatic",
        details={"job_id": last.job_id, "verdict": last.verdict} if last else None,
    )


async def no_candidate_waits(session: AsyncSession, applied: Applied) -> Check:
    """Who passed the gate and waits for a person: the next candidate would only push it out."""
    waiting = await _waiting(session, applied.model)
    passed = waiting is None
    said = f"Version {waiting} passed the gate and waits to be staged or reloaded." if waiting else ""
    return Check(
        "candidate_waits",
        passed=passed,
        value=waiting,
        required=None,
        message="No candidate waits." if passed else said,
        remedy=f"Reload it (refit reload {applied.model}); GET /events?kind=slots.put_off says what keeps it.",
        binds="automatic",
    )


async def _waiting(session: AsyncSession, model: str) -> int | None:
    """The version in standby, or the newest that a hold, a watch or a trial keeps from there, where it passed against
    what is active and was never active itself, and is not what is known already."""
    newest = select(func.max(ModelVersion.number)).where(ModelVersion.model == model).scalar_subquery()
    stands_by = (ModelVersion.number == ModelSlots.standby) | (ModelVersion.number == newest)
    was_active = exists().where(SlotHistory.model == ModelSlots.model, SlotHistory.active == ModelVersion.number)
    query = (
        select(ModelVersion, ModelSlots)
        .join(ModelSlots, (ModelVersion.model == ModelSlots.model) & stands_by)
        .where(
            ModelSlots.model == model,
            ModelVersion.verdict == "pass",
            ModelVersion.incumbent.is_not_distinct_from(ModelSlots.active),
            ~was_active,
        )
        .order_by(ModelVersion.number.desc())
    )
    for version, slots in (await session.execute(query.execution_options(populate_existing=True))).all():
        if await nothing_new(session, slots, version) is None:
            return int(version.number)
    return None


async def _changes(
    session: AsyncSession, applied: Applied, last: ModelVersion, active: int | None, new_samples: int | None
) -> list[str]:
    """What is not as it was when that version was judged, in words."""
    snapshot = exists().where(DataVersion.model == applied.model, DataVersion.created_at > last.created_at)
    found = {
        "definition": await trains_otherwise(session, applied.model, last.definition_revision, applied.revision),
        "active version": active != last.incumbent,
        "data version": bool(await session.scalar(select(snapshot))),
    }
    changed = [name for name, is_other in found.items() if is_other]
    return changed or await _new_rows(session, applied, new_samples)


async def _new_rows(session: AsyncSession, applied: Applied, counted: int | None) -> list[str]:
    """A source that cannot tell is given the benefit of the doubt: it may have rows that nobody has seen."""
    if counted is None:
        try:
            counted = await data.count_new(session, applied.model, applied.definition)
        except RefitError:
            return []
    return ["rows, perhaps: the source could not tell"] if counted is None else ["rows"] if counted else []


def _of(applied: Applied) -> ColumnElement[bool]:
    return (TrainingJob.model == applied.model) & TRAINS


async def _last_automatic(session: AsyncSession, applied: Applied) -> ModelVersion | None:
    """What came of the last completed training that nobody asked for by hand."""
    made = select(ModelVersion).join(TrainingJob, TrainingJob.id == ModelVersion.job_id)
    query = made.where(_of(applied), TrainingJob.trigger != MANUAL).order_by(ModelVersion.number.desc()).limit(1)
    return await session.scalar(query)
