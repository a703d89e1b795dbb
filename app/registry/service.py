"""Reading versions, slots and their history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from app.definitions.service import load
from app.errors import NotFound
from app.registry import swap
from app.registry.tables import ModelSlots, ModelVersion, ReplicaSlots, SlotHistory


async def get_slots(session: AsyncSession, model: str) -> tuple[ModelSlots, Sequence[ReplicaSlots]]:
    """The slots of a model and what each live replica really holds. Raises NotFound."""
    slots = await session.get(ModelSlots, model, populate_existing=True)
    if slots is None:
        await load(session, model)
        raise NotFound(f"Model {model} has no slots.", code="model_not_found")
    return slots, await swap.live_replicas(session, model)


async def list_versions(session: AsyncSession, model: str, *, after: int | None, limit: int) -> Sequence[ModelVersion]:
    """Newest first, from below the number `after`; one more than `limit`."""
    query = select(ModelVersion).where(ModelVersion.model == model).order_by(ModelVersion.number.desc())
    if after is not None:
        query = query.where(ModelVersion.number < after)
    return (await session.scalars(query.limit(limit + 1))).all()


async def history(session: AsyncSession, model: str, *, after: int | None, limit: int) -> Sequence[SlotHistory]:
    """Every change of the slots, newest first, from below the id `after`; one more than `limit`."""
    query = select(SlotHistory).where(SlotHistory.model == model).order_by(SlotHistory.id.desc())
    if after is not None:
        query = query.where(SlotHistory.id < after)
    return (await session.scalars(query.limit(limit + 1))).all()


async def in_force(session: AsyncSession, at: datetime, model: str | None) -> list[tuple[SlotHistory, SlotHistory]]:
    """What was live at a time, and on whose say: of each model (or the one named) the change that was in force, and
    the one that had made its active version active."""
    newest = select(SlotHistory).ext(distinct_on(SlotHistory.model)).where(SlotHistory.at <= at)
    query = newest.order_by(SlotHistory.model, SlotHistory.id.desc())
    rows = (await session.scalars(query if model is None else query.where(SlotHistory.model == model))).all()
    return [(row, await _made_active(session, row)) for row in rows]


async def _made_active(session: AsyncSession, row: SlotHistory) -> SlotHistory:
    """The first change of that generation; where nothing is active yet, the first change of all."""
    same = (SlotHistory.model == row.model, SlotHistory.generation == row.generation)
    return (await session.scalars(select(SlotHistory).where(*same).order_by(SlotHistory.id).limit(1))).one()


async def differences(session: AsyncSession, model: str, older: int, newer: int) -> dict[str, dict[str, Any]]:
    """{figure: {older, newer}} of metrics, chosen details, data version, definition and artifact where they differ."""
    a, b = [await swap.get_version(session, model, number) for number in (older, newer)]
    return {
        name: {"older": _figures(a).get(name), "newer": _figures(b).get(name)}
        for name in sorted(_figures(a).keys() | _figures(b).keys())
        if _figures(a).get(name) != _figures(b).get(name)
    }


def _figures(version: ModelVersion) -> dict[str, Any]:
    named = ("definition_revision", "data_version", "format", "artifact", "size", "verdict")
    figures = {name: getattr(version, name) for name in named}
    figures |= {f"metrics.{name}": value for name, value in version.metrics.items()}
    figures |= {f"details.{name}": value for name, value in version.details.items()}
    return figures | {f"gate.{c['name']}": c["candidate"] for c in version.gate.get("criteria", [])}
