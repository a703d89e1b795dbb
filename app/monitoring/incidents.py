"""Incidents: opened by Refit or by hand, closed by people with a note."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.errors import NotFound, Refused
from app.events.record import record
from app.monitoring.tables import Incident


async def open_incident(
    session: AsyncSession,
    *,
    severity: str,
    title: str,
    actor: str,
    model: str | None = None,
    job_id: int | None = None,
    evidence: dict[str, Any] | None = None,
) -> Incident:
    values = {
        "severity": severity,
        "title": title,
        "opened_by": actor,
        "model": model,
        "job_id": job_id,
        "evidence": evidence,
    }
    incident = (await session.scalars(insert(Incident).values(values).returning(Incident))).one()
    await record(session, kind="incident.opened", actor=actor, model=model, job_id=job_id, after=severity, reason=title)
    return incident


async def close_incident(session: AsyncSession, id: int, *, actor: str, note: str) -> Incident:
    """Raises NotFound, or Refused where it is closed already."""
    closed: Incident | None = await session.scalar(
        update(Incident)
        .where(Incident.id == id, Incident.closed_at.is_(None))
        .values(closed_at=clock(), closed_by=actor, note=note)
        .returning(Incident)
    )
    if closed is None:
        if await session.get(Incident, id) is None:
            raise NotFound(f"No incident has the id {id}.", code="incident_not_found")
        raise Refused(f"Incident {id} is closed already.", code="incident_closed")
    await record(session, kind="incident.closed", actor=actor, model=closed.model, job_id=closed.job_id, reason=note)
    return closed


async def open_p1(session: AsyncSession, model: str) -> Sequence[Incident]:
    """The open P1 incidents that concern `model`: its own, and those of no model, which concern every one."""
    concerns = or_(Incident.model == model, Incident.model.is_(None))
    query = select(Incident).where(Incident.severity == "P1", Incident.closed_at.is_(None), concerns)
    return (await session.scalars(query.order_by(Incident.id))).all()


async def list_incidents(session: AsyncSession, *, only_open: bool, model: str | None) -> Sequence[Incident]:
    query = select(Incident).order_by(Incident.id.desc()).limit(500)
    if only_open:
        query = query.where(Incident.closed_at.is_(None))
    if model is not None:
        query = query.where(Incident.model == model)
    return (await session.scalars(query)).all()
