"""What others measured: learning cycles as runbook 003 keeps them, and values of metrics of any name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal
from app.db import clock
from app.errors import Invalid
from app.feedback.schemas import LearningRequest, Point
from app.feedback.tables import LearningStats, MetricPoint
from app.registry.tables import ModelVersion

Told = TypeVar("Told", LearningStats, MetricPoint)


async def post_learning(
    session: AsyncSession, model: str, told: LearningRequest, sender: Principal, key: str | None
) -> tuple[int, bool]:
    """The id of what is kept, and whether it was known before, by its cycle or by the key.

    Raises Invalid where that was told otherwise, and keeps the first word.
    """
    values: dict[str, Any] = {
        "model": model,
        "cycle": None if told.cycle is None else str(told.cycle),
        "accept_rate": told.rate,
        "accepted": told.accepted,
        "rejected": told.rejected,
        "metrics": told.metrics,
        "sender": str(sender),
        "sender_key": None if key is None else f"{sender.id}:{key}",
        "at": told.at or clock(),
    }
    added = insert(LearningStats).values(values).on_conflict_do_nothing().returning(LearningStats.id)
    id: int | None = await session.scalar(added)
    if id is not None:
        return id, False
    known = await _known(session, LearningStats, values, ("model", "cycle"))
    if not _says(known, values, "model", "cycle", "accept_rate", "accepted", "rejected", "metrics"):
        if key is not None and known.sender_key == values["sender_key"]:
            raise _key_reused()
        raise Invalid(
            f"Cycle {known.cycle} was told before, with an accept rate of {known.accept_rate:g}.",
            code="cycle_known",
            remedy="Name another cycle; what was told is not replaced.",
        )
    return known.id, True


async def post_points(
    session: AsyncSession, model: str, points: Sequence[Point], sender: Principal, key: str | None
) -> int:
    """How many were new. Raises Invalid, and keeps none, where one is of a version that there is not, or was told
    before with another value."""
    await _refuse_unknown_versions(session, model, points)
    new = 0
    for place, point in enumerate(points):
        values = point.model_dump() | {"model": model, "sender": str(sender), "at": point.at or clock()}
        values["sender_key"] = None if key is None else f"{sender.id}:{place}:{key}"
        added = insert(MetricPoint).values(values).on_conflict_do_nothing().returning(MetricPoint.id)
        if await session.scalar(added) is not None:
            new += 1
        else:
            await _refuse_another_value(session, place, values)
    return new


async def _refuse_another_value(session: AsyncSession, place: int, values: Mapping[str, Any]) -> None:
    known = await _known(session, MetricPoint, values, ("model", "name", "version", "source", "at"))
    if _says(known, values, "model", "name", "version", "source", "value", "n"):
        return
    if known.sender_key is not None and known.sender_key == values["sender_key"]:
        raise _key_reused()
    message = f"{known.name} of {known.source} at {known.at:%Y-%m-%d %H:%M:%S} is {known.value:g} already"
    raise Invalid(
        f"Nothing was accepted: observations.{place}.value: {message}.",
        code="value_known",
        remedy="Send it with another time or source; what was told is not replaced.",
        errors=[{"field": f"observations.{place}.value", "message": message}],
    )


async def _known(session: AsyncSession, of: type[Told], values: Mapping[str, Any], names: Sequence[str]) -> Told:
    """What the values met with: the row of the same key, else the one that `names` name."""
    by_key = of.sender_key == values["sender_key"]
    by_name = and_(*(getattr(of, name).is_not_distinct_from(values[name]) for name in names))
    if values["sender_key"] and (found := await session.scalar(select(of).where(by_key))) is not None:
        return found
    return (await session.scalars(select(of).where(by_name).order_by(of.id).limit(1))).one()


def _says(known: LearningStats | MetricPoint, values: Mapping[str, Any], *names: str) -> bool:
    return all(getattr(known, name) == values[name] for name in names)


def _key_reused() -> Invalid:
    return Invalid(
        "This Idempotency-Key was used with another body.",
        code="idempotency_key_reused",
        remedy="Send a new key, or the body of the first time.",
    )


async def _refuse_unknown_versions(session: AsyncSession, model: str, points: Sequence[Point]) -> None:
    of = ModelVersion
    named = {point.version for point in points if point.version is not None}
    known = set(await session.scalars(select(of.number).where(of.model == model, of.number.in_(named))))
    errors = [
        {"field": f"observations.{place}.version", "message": f"{model} has no version {point.version}"}
        for place, point in enumerate(points)
        if point.version in named - known
    ]
    if errors:
        raise Invalid(
            f"Nothing was accepted: {errors[0]['field']}: {errors[0]['message']}.",
            code="version_not_found",
            remedy=f"`refit versions list {model}` names them.",
            errors=errors,
        )


async def recent_learning(session: AsyncSession, model: str, limit: int = 5) -> Sequence[LearningStats]:
    """The last cycles, newest first; none where nothing was ever told."""
    query = select(LearningStats).where(LearningStats.model == model)
    return (await session.scalars(query.order_by(LearningStats.at.desc(), LearningStats.id.desc()).limit(limit))).all()


async def recent_metric(
    session: AsyncSession,
    model: str,
    name: str,
    version: int | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> Sequence[MetricPoint]:
    """The last values of a metric, newest first; of one version and of none, where that is named."""
    query = select(MetricPoint).where(MetricPoint.model == model, MetricPoint.name == name)
    if version is not None:
        query = query.where(or_(MetricPoint.version == version, MetricPoint.version.is_(None)))
    if since is not None:
        query = query.where(MetricPoint.at >= since)
    return (await session.scalars(query.order_by(MetricPoint.at.desc(), MetricPoint.id.desc()).limit(limit))).all()


async def list_learning(session: AsyncSession, model: str, *, after: int | None, limit: int) -> Sequence[LearningStats]:
    """In the order in which they came, newest first; one more than `limit`."""
    query = select(LearningStats).where(LearningStats.model == model).order_by(LearningStats.id.desc())
    if after is not None:
        query = query.where(LearningStats.id < after)
    return (await session.scalars(query.limit(limit + 1))).all()


async def list_points(
    session: AsyncSession, model: str, *, name: str | None, version: int | None, after: int | None, limit: int
) -> Sequence[MetricPoint]:
    """In the order in which they came, newest first; one more than `limit`."""
    query = select(MetricPoint).where(MetricPoint.model == model).order_by(MetricPoint.id.desc())
    for column, wanted in ((MetricPoint.name, name), (MetricPoint.version, version)):
        if wanted is not None:
            query = query.where(func.coalesce(column == wanted, False))
    if after is not None:
        query = query.where(MetricPoint.id < after)
    return (await session.scalars(query.limit(limit + 1))).all()
