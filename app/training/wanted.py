"""A trigger as the columns of the job that it asks for."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import service as data
from app.data.language_model import LabelOptions
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.definitions.service import Applied
from app.definitions.tables import ModelType
from app.errors import Invalid
from app.patterns import in_words
from app.settings import Settings
from app.training import confirmation, stages
from app.training.equality import digest_of
from app.training.schemas import PRIORITIES, TriggerRequest
from app.training.stages import Left
from app.training.tables import TrainingJob


@dataclass(frozen=True)
class Wanted:
    """`columns` of the job, what it goes on from, and the dry run whose token was brought."""

    columns: dict[str, Any]
    left: Left | None
    dry_run: TrainingJob | None

    @property
    def works(self) -> bool:
        """Whether the type's pipeline is to run, not to plan."""
        return not (self.columns["dry_run"] or stages.are_of_data(self.columns["stages"]))


async def wanted_by(
    session: AsyncSession, settings: Settings, request: TriggerRequest, applied: Applied, model_type: ModelType
) -> Wanted:
    """Equal jobs have equal `equality`: what is trained, not why.

    Raises Invalid for stages, labelling or a data version that cannot be; Refused `nothing_to_go_on_from`.
    """
    definition = applied.definition
    params = definition.training | request.params
    asked = stages.in_order(request.stages, model_type, params) if request.stages else None
    store, model = settings.store, applied.model
    left = await stages.left_for(session, store, model, model_type, asked, request.from_job) if asked else None
    dry_run = await confirmation.dry_run_of(session, model, request.confirm)
    named = await _data_version(session, model, request.data_version, left, dry_run)
    what = {
        "model": model,
        "definition_revision": applied.revision,
        "data_version": named.digest if named else data.LATEST,
        "params": params,
        "strategy": request.strategy or definition.strategy,
        "dry_run": request.dry_run,
        "stages": asked,
        "labelling": _labelling(definition, request, named is None),
    } | _taken(left, dry_run)
    asks_for_rows = named is None and not request.force and request.trains
    return Wanted(
        what
        | {
            "equality": digest_of(what | {"definition_revision": None, "definition": _said(definition)}),
            "model_type": definition.type,
            "queue": definition.queue or model_type.queue,
            "priority": PRIORITIES[request.priority],
            "max_attempts": settings.job_max_attempts,
            "min_new_samples": definition.prerequisites.min_new_samples if asks_for_rows else 0,
            "reason": request.reason,
            "note": request.note,
            "forced": request.force,
        },
        left,
        dry_run,
    )


def _said(definition: Definition) -> dict[str, Any]:
    """What was changed and changed back is as it was, whichever revision says so."""
    return definition.model_dump(mode="json", context={"secrets": True})


def _taken(left: Left | None, dry_run: TrainingJob | None) -> dict[str, Any]:
    """Of what the job goes on from, else of what was planned."""
    if left is not None:
        return left.columns
    return {"preference_digest": dry_run.preference_digest} if dry_run is not None else {}


async def _data_version(
    session: AsyncSession, model: str, asked: str, left: Left | None, dry_run: TrainingJob | None
) -> DataVersion | None:
    """Raises Invalid `data_version_fixed` where the job goes on from another one."""
    named = await data.resolve(session, model, asked)
    bound = left.job.data_digest if left is not None else dry_run.data_digest if dry_run is not None else None
    if bound is None or (named is not None and left is None):
        return named
    if named is not None and named.digest != bound:
        raise Invalid(
            f"What is gone on from was made of data version {bound[:12]}.",
            code="data_version_fixed",
            remedy="Leave data_version out, or train whole on the other one.",
            field="data_version",
        )
    return await data.resolve(session, model, bound)


def _labelling(definition: Definition, request: TriggerRequest, is_new: bool) -> dict[str, Any] | None:
    """How the rows are labelled first. Rows that stand in a data version are taken as they are, unless it is asked for.

    Raises Invalid `label_missing` where neither the definition nor the request says how.
    """
    asked = "label" in (request.stages or [])
    if not asked and (definition.label is None or not is_new or request.stages):
        return None
    told = (definition.label.model_dump(mode="json") if definition.label else {}) | request.label
    if definition.data.text is None:
        raise Invalid(
            "Only texts are labelled by a language model.", code="label_missing", remedy="Name them in data.text."
        )
    try:
        return LabelOptions.model_validate(told).model_dump(mode="json")
    except ValidationError as error:
        fields = [".".join(map(str, ("label", *each["loc"]))) for each in error.errors()]
        raise Invalid(
            f"How to label is not said whole: {fields[0]}.",
            code="label_missing",
            remedy="Write `label` in the definition, or send url, model and prompt with the request.",
            errors=[
                {"field": field, "message": in_words(each["msg"])}
                for field, each in zip(fields, error.errors(), strict=True)
            ],
        ) from None
