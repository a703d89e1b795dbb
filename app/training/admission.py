"""Whether a training may begin: every check that blocks is named, with its figures and the way out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal
from app.definitions.service import Applied
from app.definitions.tables import ModelType
from app.errors import Refused
from app.settings import Settings
from app.training import confirmation, prerequisites
from app.training.checks import Check
from app.training.state import OPEN
from app.training.tables import MANUAL, TrainingJob


@dataclass(frozen=True)
class Prospect:
    """What a trigger would be answered now, by hand and by itself; nothing is changed by asking."""

    model: str
    admitted: bool
    admitted_automatically: bool
    checks: Sequence[Check]


async def admit(
    session: AsyncSession,
    settings: Settings,
    applied: Applied,
    open_jobs: Sequence[TrainingJob],
    *,
    trigger: str,
    forced: bool,
    trains: bool,
    works: bool,
    more: Sequence[Check] = (),
) -> list[dict[str, Any]]:
    """The checks that `force` passed over, with their figures; none where it was not needed.

    Raises Refused with `reasons=[{code, message, remedy, value, required, forceable}]` where anything blocks, and what
    the data source raises where it cannot be asked. What makes no version has no prerequisites but `more`; `works`: the
    type's pipeline is to run, not to plan.
    """
    found = await prerequisites.of_any_job(session, settings, applied, open_jobs, works=works)
    if trains:
        found += await prerequisites.of_training(session, applied, by_itself=trigger != MANUAL)
    found += more
    fault = next((check.fault for check in found if check.fault), None)
    if fault:
        raise fault
    failed = [check for check in found if not check.passed and _binds(check, trigger)]
    blocking = [check for check in failed if not (forced and check.forceable)]
    if blocking:
        raise refusal(applied.model, blocking)
    return [check.figures() for check in failed]


def refusal(model: str, blocking: Sequence[Check]) -> Refused:
    return Refused(
        f"Training of {model} is refused: {' '.join(check.message for check in blocking)}",
        code=blocking[0].code,
        remedy=blocking[0].remedy,
        reasons=[check.figures() for check in blocking],
    )


async def prospect(session: AsyncSession, settings: Settings, applied: Applied, reader: Principal) -> Prospect:
    """Every check with its figure, before anybody triggers; a token is told to who may trigger."""
    found = await prerequisites.of_any_job(session, settings, applied, await open_jobs(session, applied.model))
    found += await prerequisites.of_training(session, applied, by_itself=True, counts_in_any_case=True)
    model_type = await session.get(ModelType, applied.definition.type)
    found += await confirmation.shown(session, applied, model_type, reader) if model_type else []
    failed = [check for check in found if not check.passed]
    by_hand, by_itself = ([c for c in failed if _binds(c, trigger)] for trigger in (MANUAL, "automatic"))
    return Prospect(applied.model, not by_hand, not by_itself, found)


async def open_jobs(session: AsyncSession, model: str) -> Sequence[TrainingJob]:
    """The jobs of a model that wait or run, oldest first."""
    query = select(TrainingJob).where(TrainingJob.model == model, TrainingJob.state.in_(OPEN)).order_by(TrainingJob.id)
    return (await session.scalars(query)).all()


def _binds(check: Check, trigger: str) -> bool:
    return check.binds == "every" or (check.binds == "automatic" and trigger != MANUAL)
