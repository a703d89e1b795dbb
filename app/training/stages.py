"""Jobs of single stages: which stages there are, and what such a job goes on from.

    snapshot, label       every type has them: only a data version is made
    the type's own        run, or run again, on what an earlier job of the model has left in its checkpoints

A type whose stages can be asked for has `publish` among them: what comes after it is a version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.definitions.parameters import nearest
from app.definitions.tables import ModelType
from app.errors import Invalid, Refused, told_name
from app.registry.artifacts import checkpoints_of
from app.training.tables import TrainingJob

DATA_STAGES = ("snapshot", "label")
PUBLISH = "publish"
ENDED = ("completed", "failed", "cancelled")
# How far back is looked for checkpoints that are still there.
LAST_JOBS = 100


@dataclass(frozen=True)
class Left:
    """What an earlier job left: `root` is the job whose checkpoints they are."""

    job: TrainingJob

    @property
    def root(self) -> int:
        return self.job.checkpoint_of or self.job.id

    @property
    def columns(self) -> dict[str, Any]:
        return {"checkpoint_of": self.root, "preference_digest": self.job.preference_digest}


def own(model_type: ModelType) -> list[str]:
    """The stages of a type that can be asked for, in their order; none where it does all or nothing."""
    names = [str(name) for name, _ in model_type.stages]
    return names if PUBLISH in names else []


def are_of_data(stages: Sequence[str] | None) -> bool:
    return stages is not None and not set(stages).isdisjoint(DATA_STAGES)


def in_order(asked: Sequence[str], model_type: ModelType, params: Mapping[str, Any]) -> list[str]:
    """The stages once each, in the order in which they are done.

    Raises Invalid `unknown_stage`, `stages_mixed`, or `stage_switched_off` by the parameters.
    """
    known = [*DATA_STAGES, *own(model_type)]
    if strange := [name for name in asked if name not in known]:
        raise _unknown(strange[0], known, model_type)
    if are_of_data(asked) and not set(asked) <= set(DATA_STAGES):
        raise Invalid(
            "snapshot and label make a data version; the other stages train on one.",
            code="stages_mixed",
            remedy="Trigger them one after the other.",
            field="stages",
        )
    on = params.get("stages")
    if isinstance(on, list) and (off := [n for n in asked if n not in DATA_STAGES and n not in on]):
        raise Invalid(
            f"The stage {off[0]} is switched off by training.stages.",
            code="stage_switched_off",
            remedy=f"Add {off[0]} to training.stages of the definition, or leave it out.",
            field="stages",
        )
    return [name for name in known if name in asked]


async def left_for(
    session: AsyncSession, store: Path, model: str, model_type: ModelType, stages: Sequence[str], from_job: int | None
) -> Left | None:
    """What a job of these stages goes on from: the named job, else the newest that has left anything.

    None where they begin with the type's first stage and no job is named: such a job begins anew.
    Raises Refused `nothing_to_go_on_from`.
    """
    if are_of_data(stages):
        if from_job is not None:
            raise Invalid("from_job goes with stages that train.", code="invalid", field="from_job")
        return None
    if from_job is None and stages[0] == own(model_type)[0]:
        return None
    query = select(TrainingJob).where(TrainingJob.model == model, ~TrainingJob.dry_run)
    query = query.where(TrainingJob.id == from_job) if from_job else query.where(TrainingJob.state.in_(ENDED))
    jobs = (await session.scalars(query.order_by(TrainingJob.id.desc()).limit(LAST_JOBS))).all()
    found = next((job for job in jobs if _has_left(store, job)), None)
    if found is None:
        raise _nothing_left(model, from_job, stages)
    return Left(found)


def _has_left(store: Path, job: TrainingJob) -> bool:
    if job.state not in ENDED or job.data_digest is None or job.strategy == "pull" or are_of_data(job.stages):
        return False
    return checkpoints_of(store, job.checkpoint_of or job.id).is_dir()


def _unknown(name: str, known: list[str], model_type: ModelType) -> Invalid:
    meant = nearest(name, known)
    return Invalid(
        f"A training of type {model_type.name} has no stage {told_name(name)}.",
        code="unknown_stage",
        remedy=(f"Did you mean {meant}? " if meant else "") + f"There is {', '.join(known)}.",
        field="stages",
        stages=known,
    )


def _nothing_left(model: str, from_job: int | None, stages: Sequence[str]) -> Refused:
    who = f"Job {from_job}" if from_job else f"No job of {model}"
    left = "has left nothing" if from_job else "has left anything"
    return Refused(
        f"{who} {left} that {', '.join(stages)} could go on from.",
        code="nothing_to_go_on_from",
        remedy=f"Train it whole first, `refit trigger {model}`, or name another job with --from-job: an ended one that "
        "trained, and whose checkpoints REFIT_RETAIN_CHECKPOINT_DAYS has not taken.",
    )
