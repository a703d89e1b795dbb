"""Where the sign-off of a version stands: who has approved and rejected it, and what is missing before its reload.

The last word of each reviewer counts, on the evaluation that the version has now. Whoever triggered its training may
approve it too, but is never the only one. The definition that is in force says how many, and by which role. Who is who
is told by the id of their key.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import INCLUDES, Role
from app.auth.roles import NOBODY_ASKED as NOBODY
from app.definitions.schemas import Signoff
from app.definitions.service import load
from app.errors import Refused
from app.registry.tables import ModelVersion
from app.signoff.tables import SignOff
from app.training.tables import TrainingJob

# Where the definition says nothing, nobody has to be asked, and whoever may operate can still say a word.
NOBODY_ASKED = Signoff(count=0)
WITHOUT_KEYS = (
    f"whoever calls under REFIT_AUTH=off is one and the same, {NOBODY}: take REFIT_AUTH=off away, and let everybody "
    "sign with a key of their own, from refit keys create NAME --role operator"
)
ACTOR = re.compile(r"\(([^()]*)\)$")


@dataclass(frozen=True)
class Standing:
    """`words` are the last ones of each reviewer. `missing` says in sentences what a reload still waits for."""

    asked: Signoff
    evaluation: str | None
    triggered_by: str
    words: Sequence[SignOff]

    @property
    def approvals(self) -> list[SignOff]:
        return [word for word in self.words if word.verdict == "approve" and _has(word, self.asked.role)]

    @property
    def rejections(self) -> list[SignOff]:
        return [word for word in self.words if word.verdict == "reject"]

    @property
    def missing(self) -> list[str]:
        if not self.asked.count:
            return []
        if self.evaluation is None:
            return ["it has no evaluation that people could read"]
        short = self.asked.count - len(self.approvals)
        told = [f"{short} more of {self.asked.count} approvals by the role {self.asked.role}"] if short > 0 else []
        others = [word for word in self.approvals if word.principal != id_of(self.triggered_by)]
        told += [] if others else [f"an approval by somebody else than {self.triggered_by}, who triggered it"]
        return [*told, WITHOUT_KEYS] if told and self._is_by_nobody_in_particular else told

    @property
    def _is_by_nobody_in_particular(self) -> bool:
        return NOBODY.id in (id_of(self.triggered_by), *(word.principal for word in self.words))

    @property
    def state(self) -> Literal["approved", "rejected", "missing", "not_asked"]:
        """approved, rejected, missing, or not_asked."""
        if self.rejections:
            return "rejected"
        return "missing" if self.missing else "approved" if self.asked.count else "not_asked"


async def standing_of(session: AsyncSession, version: ModelVersion) -> Standing:
    asked = (await load(session, version.model)).definition.signoff or NOBODY_ASKED
    job = await session.get_one(TrainingJob, version.job_id)
    evaluation = version.details.get("evaluation")
    last = (
        select(SignOff)
        .ext(distinct_on(SignOff.principal))
        .where(SignOff.model == version.model, SignOff.version == version.number, SignOff.evaluation == evaluation)
        .order_by(SignOff.principal, SignOff.id.desc())
    )
    words = (await session.scalars(last)).all() if evaluation else []
    return Standing(asked, evaluation, job.actor, sorted(words, key=lambda word: word.id))


async def words_on(session: AsyncSession, model: str, number: int) -> Sequence[SignOff]:
    """Every word, oldest first."""
    of_version = (SignOff.model == model) & (SignOff.version == number)
    return (await session.scalars(select(SignOff).where(of_version).order_by(SignOff.id))).all()


async def check(session: AsyncSession, version: ModelVersion) -> None:
    """Raises Refused `signoff_rejected` or `signoff_missing`; nothing passes over it."""
    standing = await standing_of(session, version)
    named = f"Version {version.number} of {version.model}"
    if standing.state == "rejected":
        by = "; ".join(f"{word.reviewer}: {word.notes or 'no notes'}" for word in standing.rejections)
        raise Refused(
            f"{named} was rejected by {by}",
            code="signoff_rejected",
            remedy="Train another; or whoever rejected it approves it after all.",
            reviewers=[word.reviewer for word in standing.rejections],
        )
    if standing.state == "missing":
        raise Refused(
            f"{named} waits for its sign-off: {'; '.join(standing.missing)}.",
            code="signoff_missing",
            remedy=f"Read its answers, refit sheet {version.model} {version.number}, then say what you think of them: "
            f"refit signoff {version.model} {version.number} --approve, or --reject.",
            missing=standing.missing,
        )


def id_of(actor: str) -> str | None:
    """The key's id of an actor as records name it, `name (id)`; None for what Refit does by itself."""
    found = ACTOR.search(actor)
    return found[1] if found else None


def _has(word: SignOff, role: str) -> bool:
    held = {Role(name) for name in word.roles}
    return Role(role) in held.union(*(INCLUDES[own] for own in held))
