"""What reviewers ask for and say: the sheet of a version, and their word on it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.definitions.schemas import Signoff
from app.definitions.service import load
from app.errors import Forbidden, NotFound, Refused
from app.evaluation import kept
from app.evaluation.schemas import Evaluation
from app.events.record import record
from app.registry.swap import get_version
from app.registry.tables import ModelVersion
from app.signoff.schemas import SheetView, SignoffRequest
from app.signoff.sheet import items_of, resolved
from app.signoff.standing import NOTHING_ASKED, Standing, asked_of, lowest_role, standing_of, words_on
from app.signoff.tables import SignOff

HAPPENED = {"approve": "signoff.approved", "reject": "signoff.rejected"}


async def sheet_of(session: AsyncSession, store: Path, model: str, number: int) -> SheetView:
    """Raises NotFound `version_not_found`, `no_evaluation`, `evaluation_not_found`."""
    version = await _version(session, model, number)
    asked = _of_the_sheet(await asked_of(session, version))
    evaluation, digest = await _evaluation(store, version)
    return SheetView(
        model=model,
        version=number,
        evaluation=digest,
        data_version=evaluation.data_version,
        notes=evaluation.notes,
        prompts=items_of(evaluation, digest, asked),
    )


async def sign(
    session: AsyncSession, store: Path, model: str, number: int, said: SignoffRequest, reviewer: Principal
) -> tuple[Standing, Sequence[SignOff]]:
    """Records a word, and where the sign-off stands now.

    Preferences are given once, blind: a later word keeps those of the reviewer's first. Raises Forbidden without the
    role that the definition asks for, Refused `evaluation_outdated`, `preferences_fixed`, Invalid for what is not on
    the sheet, and what `sheet_of` raises.
    """
    version = await _version(session, model, number)
    asked = await asked_of(session, version)
    evaluation, digest = await _evaluation(store, version)
    _check_role(model, asked, reviewer)
    if said.evaluation != digest:
        raise Refused(
            f"What was read is not the evaluation that version {number} of {model} has.",
            code="evaluation_outdated",
            remedy=f"Read it anew: refit sheet {model} {number}.",
            evaluation=digest,
        )
    preferences = resolved(said.preferences, evaluation, digest, _of_the_sheet(asked))
    preferences = await _given_once(session, version, preferences, digest, reviewer)
    values = {
        "model": model,
        "version": number,
        "reviewer": str(reviewer),
        "principal": reviewer.id,
        "roles": sorted(reviewer.roles),
        "verdict": said.verdict,
        "preferences": preferences,
        "notes": said.notes,
        "evaluation": digest,
    }
    await session.execute(insert(SignOff).values(values))
    return await _told(session, version, said, str(reviewer), preferences)


async def _given_once(
    session: AsyncSession, version: ModelVersion, preferences: dict[str, str], digest: str, reviewer: Principal
) -> dict[str, str]:
    """Those that the reviewer has given first: the answer to them has told whose answers they were, or that to a word
    without any, where nobody was waited for any more.

    Raises Refused `preferences_fixed` for others than those.
    """
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"signoff:{digest}:{reviewer.id}"))))
    of_reviewer = (SignOff.evaluation == digest) & (SignOff.principal == reviewer.id)
    said = (await session.scalars(select(SignOff).where(of_reviewer).order_by(SignOff.id))).all()
    first = next((word.preferences for word in said if word.preferences), {})
    if not said or (not first and (await standing_of(session, version)).is_blind_to(reviewer.id, said)):
        return preferences
    if preferences and preferences != first:
        raise Refused(
            "What you have said before has told you whose these answers are: your preferences stay as they were.",
            code="preferences_fixed",
            remedy="Leave preferences out, or send the same; verdict and notes may be others.",
        )
    return first


async def standing(session: AsyncSession, model: str, number: int) -> tuple[Standing, Sequence[SignOff]]:
    """Where the sign-off of a version stands, and every word on it, oldest first."""
    version = await _version(session, model, number)
    return await standing_of(session, version), await words_on(session, model, number)


async def _version(session: AsyncSession, model: str, number: int) -> ModelVersion:
    await load(session, model)
    return await get_version(session, model, number)


def _check_role(model: str, asked: Sequence[Signoff], reviewer: Principal) -> None:
    if not reviewer.may(Role(needed := lowest_role(asked))):
        raise Forbidden(
            f"A sign-off of {model} needs the role {needed}; the key {reviewer.id} has "
            f"{', '.join(sorted(reviewer.roles))}.",
            remedy="The definition's signoff.role says who signs off.",
        )


async def _told(
    session: AsyncSession, version: ModelVersion, said: SignoffRequest, reviewer: str, preferences: dict[str, str]
) -> tuple[Standing, Sequence[SignOff]]:
    found = await standing_of(session, version)
    counted = {who: list(preferences.values()).count(who) for who in ("candidate", "incumbent", "tie")}
    await record(
        session,
        kind=HAPPENED[said.verdict],
        actor=reviewer,
        model=version.model,
        job_id=version.job_id,
        version=version.number,
        after=found.state,
        reason=said.notes or None,
        evidence={"evaluation": said.evaluation, "preferences": counted, "missing": found.missing},
    )
    return found, await words_on(session, version.model, version.number)


def _of_the_sheet(asked: Sequence[Signoff]) -> Signoff:
    """As it was promised when the version was made: it stays the same, whatever is applied later."""
    return asked[0] if asked else NOTHING_ASKED


async def _evaluation(store: Path, version: ModelVersion) -> tuple[Evaluation, str]:
    digest = version.details.get("evaluation")
    if digest is None:
        raise NotFound(
            f"Version {version.number} of {version.model} has no evaluation: its type is judged by figures alone.",
            code="no_evaluation",
            remedy=f"See those: refit versions show {version.number} -m {version.model}.",
        )
    return await asyncio.to_thread(kept.read, store, digest), str(digest)
