"""The second of two steps: a costly training needs the token of a dry run, which says that somebody has read its plan.

The token is `<job>-<12 hex digits>`: of the dry run, over the model, the definition's parts that a training and its
sign-off depend on, the parameters, the strategy, the stages and the data versions. The training that brings it takes
exactly that data. It dies when any of that changes: a parameter, the definition, a data version that was taken since,
rows that the source has got since, where it can be counted within two seconds, or files that were written since, though
their rows are as many. Of other sources rows that were changed in place, without more of them, are not seen here. They
are not trained on either, for the training reads the data version and not the source. Of preferences only files count:
feedback comes in all the time.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.data import service as data
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.definitions.service import Applied, load
from app.definitions.tables import ModelType
from app.errors import RefitError
from app.training.checks import Check
from app.training.equality import digest_of
from app.training.stages import Left, are_of_data
from app.training.tables import MANUAL, TrainingJob

# Of a definition, beside its training parameters, which are the job's own.
DEPENDS_ON = ("type", "data", "label", "split", "preference", "signoff")
NOBODY_READ = "An automatic trigger has nobody who has read the plan."
HEX = 12


async def token_of(session: AsyncSession, job: TrainingJob) -> str | None:
    """Of a dry run that has its plan; None where its type asks for none."""
    model_type = await session.get(ModelType, job.model_type)
    if model_type is None or not model_type.costly or job.data_digest is None:
        return None
    definition = (await load(session, job.model, job.definition_revision)).definition
    return f"{job.id}-{digest_of(_planned(job, definition))[:HEX]}"


async def dry_run_of(session: AsyncSession, model: str, token: str | None) -> TrainingJob | None:
    """The dry run whose token it is; None for a token that no dry run of the model was ever given."""
    if token is None:
        return None
    return await session.scalar(
        select(TrainingJob).where(TrainingJob.model == model, TrainingJob.confirmation == token).limit(1)
    )


async def checks(
    session: AsyncSession,
    applied: Applied,
    model_type: ModelType,
    wanted: Mapping[str, Any],
    *,
    token: str | None,
    dry_run: TrainingJob | None,
    left: Left | None,
    trigger: str,
) -> list[Check]:
    """None for what trains nothing, nor for stages that run again on what was confirmed, with the same parameters."""
    if token is not None:
        return [await _holds(session, applied, wanted, token, dry_run)]
    needed = is_asked(model_type, applied.definition) and not _trains_nothing(wanted)
    if not needed or (left is not None and _as_before(left.job, wanted)):
        return []
    return [_nobody_read()] if trigger != MANUAL else [_required(applied, wanted)]


async def shown(session: AsyncSession, applied: Applied, model_type: ModelType, reader: Principal) -> list[Check]:
    """For who looks before they trigger: the token that would do now, if there is one."""
    if not is_asked(model_type, applied.definition) or applied.definition.strategy == "pull":
        return []
    definition = applied.definition
    wanted: dict[str, Any] = {"params": definition.training, "strategy": definition.strategy, "stages": None}
    of_model = (TrainingJob.model == applied.model) & TrainingJob.confirmation.is_not(None)
    newest = select(TrainingJob).where(of_model, TrainingJob.stages.is_(None)).order_by(TrainingJob.id.desc()).limit(1)
    dry_run = await session.scalar(newest)
    if dry_run is None:
        return [_required(applied, wanted), _nobody_read()]
    wanted["data_version"] = dry_run.data_digest
    found = await _holds(session, applied, wanted, str(dry_run.confirmation), dry_run)
    return [_told_to(reader, found), _nobody_read()]


def is_asked(model_type: ModelType, definition: Definition) -> bool:
    return model_type.costly and definition.prerequisites.confirmation


def _trains_nothing(wanted: Mapping[str, Any]) -> bool:
    return bool(wanted["dry_run"]) or wanted["strategy"] == "pull" or are_of_data(wanted["stages"])


def _as_before(before: TrainingJob, wanted: Mapping[str, Any]) -> bool:
    return bool(before.params == wanted["params"] and before.strategy == wanted["strategy"])


async def _holds(
    session: AsyncSession, applied: Applied, wanted: Mapping[str, Any], token: str, dry_run: TrainingJob | None
) -> Check:
    if dry_run is None:
        return unknown(applied, wanted, token)
    changed = await _changed(session, applied, wanted, dry_run)
    if changed:
        return _failed(
            "confirmation_stale",
            f"What job {dry_run.id} planned is not what would be done now: {', '.join(changed)}.",
            f"Plan it anew: {_command(applied, wanted)}.",
            changed,
        )
    return Check(
        "confirmation_required",
        passed=True,
        value=token,
        required="the token of a dry run",
        message=f"Job {dry_run.id} has planned it.",
        remedy=f"Send it: refit trigger {applied.model} --confirm {token}.",
        forceable=False,
        details={"job_id": dry_run.id},
    )


async def _changed(
    session: AsyncSession, applied: Applied, wanted: Mapping[str, Any], dry_run: TrainingJob
) -> list[str]:
    """In words: which part of the definition, which parameters, what of the data."""
    before = (await load(session, applied.model, dry_run.definition_revision)).definition
    parts = [n for n in DEPENDS_ON if getattr(before, n) != getattr(applied.definition, n)]
    mine, theirs = wanted["params"], dry_run.params
    params = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
    changed = [f"definition ({', '.join(parts)})"] if parts else []
    changed += [f"params ({', '.join(params)})"] if params else []
    changed += [n for n in ("strategy", "stages") if wanted[n] != getattr(dry_run, n)]
    return changed + ([] if parts else await _changed_data(session, applied, wanted, dry_run))


async def _changed_data(
    session: AsyncSession, applied: Applied, wanted: Mapping[str, Any], dry_run: TrainingJob
) -> list[str]:
    """Rows that were named, not read anew, cannot change, nor what a source that cannot be asked now has."""
    if wanted["data_version"] != dry_run.data_digest:
        return [f"data (it was planned on {str(dry_run.data_digest)[:HEX]})"]
    if dry_run.data_version != data.LATEST:
        return []
    if written := await _written_since(applied, dry_run):
        return written
    since = (DataVersion.model == applied.model) & (DataVersion.created_at > dry_run.finished_at)
    if await session.scalar(select(exists().where(since))):
        return ["data (a newer data version was taken)"]
    planned_on = await session.get(DataVersion, (applied.model, dry_run.data_digest))
    try:
        new = await data.count_new(session, applied.model, applied.definition, since=planned_on) or 0
    except RefitError:
        return []
    return [f"data ({new} new rows)"] if new else []


async def _written_since(applied: Applied, dry_run: TrainingJob) -> list[str]:
    before, now = dry_run.source_marks or {}, await data.marks_of(applied.definition)
    return [f"{n} (its files were written since)" for n in sorted(before) if now.get(n, before[n]) != before[n]]


def unknown(applied: Applied, wanted: Mapping[str, Any], token: str) -> Check:
    return _failed(
        "confirmation_unknown",
        f"No dry run of {applied.model} has given this token.",
        f"Get one, and read its plan: {_command(applied, wanted)}.",
        token,
    )


def _required(applied: Applied, wanted: Mapping[str, Any]) -> Check:
    return _failed(
        "confirmation_required",
        f"A training of type {applied.definition.type} needs the token of a dry run.",
        f"Read the plan first, it ends with the command that trains: {_command(applied, wanted)}. "
        "Or let the definition say prerequisites.confirmation: false.",
        None,
    )


def _told_to(reader: Principal, found: Check) -> Check:
    if not found.passed or reader.may(Role.TRAINER):
        return found
    return replace(found, value=None, remedy="Whoever may trigger sees the token.")


def _nobody_read() -> Check:
    return Check(
        "confirmation_automatic",
        passed=False,
        value=None,
        required="the token of a dry run",
        message=NOBODY_READ,
        remedy="Trigger by hand, or let the definition say prerequisites.confirmation: false.",
        forceable=False,
        binds="automatic",
    )


def _failed(code: str, message: str, remedy: str, value: Any) -> Check:
    """Nobody may pass over it by force: whoever wants no plan says so in the definition, where it is recorded."""
    asked = "the token of a dry run"
    return Check(code, passed=False, value=value, required=asked, message=message, remedy=remedy, forceable=False)


def _command(applied: Applied, wanted: Mapping[str, Any]) -> str:
    from_job = [f"--from-job {wanted['from_job']}"] if wanted.get("from_job") else []
    asked = [*(f"--stage {n}" for n in wanted["stages"] or ()), *from_job]
    return " ".join(["refit trigger", applied.model, "--dry-run", *asked])


def _planned(job: TrainingJob, definition: Definition) -> dict[str, Any]:
    told = definition.model_dump(mode="json")
    named = ("model", "params", "strategy", "stages", "data_digest", "preference_digest")
    return {name: getattr(job, name) for name in named} | {"definition": {name: told[name] for name in DEPENDS_ON}}
