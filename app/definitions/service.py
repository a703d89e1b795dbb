"""Definitions: applied whole or not at all, numbered, and never changed afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.splits import check_change
from app.data.tables import DataVersion
from app.definitions import language_models
from app.definitions.parameters import faults, of_strategy
from app.definitions.schemas import Definition, Strategy
from app.definitions.tables import Model, ModelDefinition, ModelType
from app.errors import MOST_ERRORS, Invalid, NotFound, Refused, told_name
from app.events.record import record
from app.registry.tables import ModelSlots
from app.schemas import beyond_64_bits

# Of a definition: what a version and its verdict come from.
DEPENDS_ON = ("type", "data", "label", "split", "training", "strategy", "gate", "preference")


@dataclass(frozen=True)
class Applied:
    """A model with one revision of its definition."""

    model: str
    revision: int
    definition: Definition
    changed: bool = False


async def apply(session: AsyncSession, model: str, definition: Definition, *, actor: str) -> Applied:
    """Makes `definition` the current one. Applying the same again changes nothing and makes no revision.

    Raises Invalid for an unknown type, parameters or a strategy that its pipeline refuses; Refused where the type or a
    holdout row would change its place.
    """
    _check_numbers(definition)
    await check_training(session, definition, definition.training, definition.strategy)
    row = await session.get(Model, model, with_for_update=True)
    if row is None:
        return await _create(session, model, definition, actor)
    current = await load(session, model, row.revision)
    if current.definition == definition:
        return current
    _check_type(model, current.definition.type, definition.type)
    if await session.scalar(select(DataVersion.digest).where(DataVersion.model == model).limit(1)) is not None:
        check_change(current.definition, definition)
    revision = row.revision + 1
    await session.execute(update(Model).where(Model.name == model).values(revision=revision))
    await _insert(session, model, revision, definition, actor)
    return Applied(model, revision, definition, changed=True)


def _check_numbers(definition: Definition) -> None:
    """Raises Invalid naming the field of the first one that could be kept and never read again."""
    for path in beyond_64_bits(definition.model_dump(mode="json")):
        field = ".".join(map(told_name, path))
        raise Invalid(f"{field} is beyond 64 bits.", remedy="Give a number below 2^63.", field=field)


async def check_training(
    session: AsyncSession, definition: Definition, params: dict[str, Any], strategy: Strategy
) -> ModelType:
    """The published model type, after a training by these `params` was held against all that can be known before it.

    Raises Invalid naming each bad field.
    """
    published = await _published(session, definition.type)
    errors = faults(of_strategy(published.params_schema, strategy), params)[:MOST_ERRORS]
    if errors:
        raise Invalid(
            f"Training parameters are not valid: {errors[0]['field']} {errors[0]['message']}.",
            code="invalid_params",
            remedy=f"Known parameters of {definition.type}: "
            f"{', '.join(sorted(published.params_schema.get('properties', {})))}.",
            errors=errors,
        )
    _check_strategy(published, strategy)
    if definition.type == language_models.TYPE:
        language_models.check(definition, params, strategy)
    return published


async def _published(session: AsyncSession, type: str) -> ModelType:
    published = await session.get(ModelType, type)
    if published is None:
        known = (await session.scalars(select(ModelType.name).order_by(ModelType.name))).all()
        raise Invalid(
            f"No worker has announced the model type {type!r}.",
            code="unknown_model_type",
            remedy=f"Known are: {', '.join(known)}."
            if known
            else "Start a worker; it announces its types within seconds.",
        )
    return published


def _check_strategy(model_type: ModelType, strategy: Strategy) -> None:
    """Raises Invalid `strategy_unsupported` where a training of the type cannot start from the active version, or where
    its versions cannot be fetched."""
    if strategy == "incremental" and not model_type.incremental:
        raise Invalid(
            f"A training of type {model_type.name} cannot start from the active version.",
            code="strategy_unsupported",
            remedy="Set strategy to full; GET /training/types says which types are incremental.",
            field="strategy",
        )
    if strategy == "pull" and not model_type.pulls:
        raise Invalid(
            f"A version of type {model_type.name} cannot be pulled: it must be trained here.",
            code="strategy_unsupported",
            remedy="Set strategy to full.",
            field="strategy",
        )


async def load(session: AsyncSession, model: str, revision: int | None = None, *, lock: bool = False) -> Applied:
    """One revision of a model's definition, else the current one; `lock` holds the model's row. Raises NotFound."""
    query = (
        select(ModelDefinition)
        .join(Model, Model.name == ModelDefinition.model)
        .where(Model.name == model, ModelDefinition.revision == (revision or Model.revision))
    )
    stored = await session.scalar(query.with_for_update(of=Model, key_share=True) if lock else query)
    if stored is None:
        raise await _unknown(session, model, revision)
    return Applied(model, stored.revision, Definition.model_validate(stored.definition))


async def resolve_model(
    session: AsyncSession, model: str | None, model_type: str | None = None, *, lock: bool = False
) -> Applied:
    """The model that is meant: the one named, else the only one (of that type), else the one named like the type.

    Raises NotFound for an unknown name, Invalid with the names where several could be meant or the type differs.
    """
    applied = await load(session, model or await _meant(session, model_type), lock=lock)
    if model_type not in (None, applied.definition.type):
        raise Invalid(
            f"Model {model} is of type {applied.definition.type}, not {model_type}.",
            code="model_type_mismatch",
        )
    return applied


async def _meant(session: AsyncSession, model_type: str | None) -> str:
    query = select(Model.name).order_by(Model.name)
    names = (await session.scalars(query if model_type is None else query.where(Model.type == model_type))).all()
    if len(names) == 1:
        return names[0]
    if model_type is not None and model_type in names:
        return model_type
    if not names:
        raise NotFound(
            "No model is defined." if model_type is None else f"No model of type {model_type} is defined.",
            code="no_model",
            remedy="Define one with `refit models apply FILE.yaml` or PUT /models/NAME.",
        )
    raise Invalid(
        "Several models could be meant; name one.",
        code="model_ambiguous",
        remedy=f'Send "model" with one of: {", ".join(names)}.',
        models=list(names),
    )


async def trains_otherwise(session: AsyncSession, model: str, before: int, now: int) -> bool:
    """Whether two revisions differ in what a training depends on; other words about the model make no other version."""
    if before == now:
        return False
    older, newer = [(await load(session, model, revision)).definition for revision in (before, now)]
    return any(getattr(older, name) != getattr(newer, name) for name in DEPENDS_ON)


async def list_models(session: AsyncSession) -> Sequence[Model]:
    return (await session.scalars(select(Model).order_by(Model.name))).all()


async def revisions(session: AsyncSession, model: str) -> Sequence[ModelDefinition]:
    await load(session, model)
    query = select(ModelDefinition).where(ModelDefinition.model == model).order_by(ModelDefinition.revision.desc())
    return (await session.scalars(query)).all()


async def _create(session: AsyncSession, model: str, definition: Definition, actor: str) -> Applied:
    await session.execute(insert(Model).values(name=model, type=definition.type))
    await _insert(session, model, 1, definition, actor)
    await session.execute(insert(ModelSlots).values(model=model))
    return Applied(model, 1, definition, changed=True)


async def _insert(session: AsyncSession, model: str, revision: int, definition: Definition, actor: str) -> None:
    # Only this row keeps a source's password; every other dump of a definition masks it.
    kept = definition.model_dump(mode="json", context={"secrets": True})
    values = {"model": model, "revision": revision, "definition": kept, "actor": actor}
    await session.execute(insert(ModelDefinition).values(values))
    shown = definition.model_dump(mode="json")
    await record(session, kind="model.defined", actor=actor, model=model, after=f"revision {revision}", evidence=shown)


def _check_type(model: str, current: str, wanted: str) -> None:
    if current != wanted:
        raise Refused(
            f"Model {model} is of type {current}; a model keeps its type.",
            code="type_fixed",
            remedy="Define a new model of the other type.",
        )


async def _unknown(session: AsyncSession, model: str, revision: int | None) -> NotFound:
    row = await session.get(Model, model)
    if row is not None:
        return NotFound(
            f"Model {model} has no revision {revision}; its newest is {row.revision}.", code="revision_not_found"
        )
    names = (await session.scalars(select(Model.name).order_by(Model.name))).all()
    remedy = f"Defined are: {', '.join(names)}." if names else "None is defined yet: `refit models apply FILE.yaml`."
    return NotFound("No model has this name.", code="model_not_found", remedy=remedy)
