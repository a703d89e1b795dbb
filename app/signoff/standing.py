"""Where the sign-off of a version stands: who has approved and rejected it, and what is missing before its reload.

The last word of each reviewer counts, on the evaluation that the version has now. How many are asked for, and by which
role, is said by the definitions that its jobs were made with and by the one that is in force: each must be met, so what
was promised when it was trained cannot be lifted afterwards. Whoever had a hand in its making (triggered its job, one
that this goes on from, or the dry run that was confirmed) may approve it too, but is never the only one. Who is who is
told by the id of their key.
"""

import re
from collections.abc import Iterator, Sequence
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
from app.training.chain import chain_of
from app.training.tables import TrainingJob

# Where no definition says anything, nobody has to be asked, and whoever may operate can still say a word.
NOTHING_ASKED = Signoff(count=0)
WITHOUT_KEYS = (
    f"whoever calls under REFIT_AUTH=off is one and the same, {NOBODY}: take REFIT_AUTH=off away, and let everybody "
    "sign with a key of their own, from refit keys create NAME --role operator"
)
ACTOR = re.compile(r"\(([^()]*)\)$")


@dataclass(frozen=True)
class Standing:
    """`words` are the last ones of each reviewer. `missing` says in sentences what a reload still waits for.

    `made_by` are the actors of all jobs that it goes back to, `triggered_by` is that of its own.
    """

    asked: Sequence[Signoff]
    evaluation: str | None
    triggered_by: str
    made_by: Sequence[str]
    words: Sequence[SignOff]

    @property
    def required(self) -> int:
        return max((asked.count for asked in self.asked), default=0)

    @property
    def role(self) -> str:
        """The highest that is asked for."""
        return max((asked.role for asked in self.asked), key=_rank, default=NOTHING_ASKED.role)

    @property
    def approvals(self) -> list[SignOff]:
        return [word for word in self._approving if _has(word, lowest_role(self.asked))]

    @property
    def rejections(self) -> list[SignOff]:
        return [word for word in self.words if word.verdict == "reject"]

    @property
    def missing(self) -> list[str]:
        if not self.required:
            return []
        if self.evaluation is None:
            return ["it has no evaluation that people could read"]
        told = list(dict.fromkeys(part for asked in self.asked if asked.count for part in self._missing_of(asked)))
        return [*told, WITHOUT_KEYS] if told and self._is_by_nobody_in_particular else told

    @property
    def state(self) -> Literal["approved", "rejected", "missing", "not_asked"]:
        """approved, rejected, missing, or not_asked."""
        if self.rejections:
            return "rejected"
        return "missing" if self.missing else "approved" if self.required else "not_asked"

    def is_blind_to(self, reader: str, words: Sequence[SignOff]) -> bool:
        """Whether whose answer is whose is not to be told to `reader`, by what others preferred: whoever has given
        preferences knows it, and once nobody is waited for all may."""
        return self.state == "missing" and not any(word.principal == reader and word.preferences for word in words)

    @property
    def _approving(self) -> list[SignOff]:
        return [word for word in self.words if word.verdict == "approve"]

    def _missing_of(self, asked: Signoff) -> Iterator[str]:
        found = [word for word in self._approving if _has(word, asked.role)]
        if (short := asked.count - len(found)) > 0:
            yield f"{short} more of {asked.count} approvals by the role {asked.role}"
        if {word.principal for word in found} <= {id_of(actor) for actor in self.made_by}:
            yield f"an approval by somebody else than {', '.join(self.made_by)}, who {self._did}"

    @property
    def _did(self) -> str:
        return "triggered it" if len(self.made_by) == 1 else "triggered or planned what it was made of"

    @property
    def _is_by_nobody_in_particular(self) -> bool:
        return NOBODY.id in (*map(id_of, self.made_by), *(word.principal for word in self.words))


async def standing_of(session: AsyncSession, version: ModelVersion) -> Standing:
    chain = await chain_of(session, version.job_id)
    evaluation = version.details.get("evaluation")
    last = (
        select(SignOff)
        .ext(distinct_on(SignOff.principal))
        .where(SignOff.model == version.model, SignOff.version == version.number, SignOff.evaluation == evaluation)
        .order_by(SignOff.principal, SignOff.id.desc())
    )
    words = (await session.scalars(last)).all() if evaluation else []
    made_by = list(dict.fromkeys(job.actor for job in chain))
    by_age = sorted(words, key=lambda word: word.id)
    return Standing(await _asked(session, version.model, chain), evaluation, chain[0].actor, made_by, by_age)


async def asked_of(session: AsyncSession, version: ModelVersion) -> Sequence[Signoff]:
    """Every sign-off that the version is held to, what was promised when it was made first; none where nobody asks."""
    return await _asked(session, version.model, await chain_of(session, version.job_id))


async def _asked(session: AsyncSession, model: str, chain: Sequence[TrainingJob]) -> Sequence[Signoff]:
    """A plan alone makes nothing: its definition promises nothing."""
    revisions = dict.fromkeys(job.definition_revision for job in chain if not job.dry_run)
    found = [(await load(session, model, revision)).definition.signoff for revision in (*revisions, None)]
    return [each for place, each in enumerate(found) if each and each not in found[:place]]


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


def lowest_role(asked: Sequence[Signoff]) -> str:
    """Without it no word counts for anything."""
    return min((each.role for each in asked), key=_rank, default=NOTHING_ASKED.role)


def _rank(role: str) -> int:
    return len(INCLUDES[Role(role)])


def _has(word: SignOff, role: str) -> bool:
    held = {Role(name) for name in word.roles}
    return Role(role) in held.union(*(INCLUDES[own] for own in held))
