"""Incidents: opened by Refit or by hand, taken over by somebody, closed by people with a note."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.errors import NotFound, Refused
from app.events.record import record
from app.incidents.links import Link, to_job
from app.incidents.tables import Incident

State = Literal["open", "unacknowledged", "acknowledged", "closed", "all"]

INCIDENTS = "`refit incidents list --state all` or GET /incidents?state=all names them."

# One that comes up every minute for a day must not grow without end: the first links tell the cause.
MOST_LINKS = 50

IS_OPEN = Incident.closed_at.is_(None)
STATES: dict[State, ColumnElement[bool]] = {
    "open": IS_OPEN,
    "unacknowledged": IS_OPEN & Incident.acknowledged_at.is_(None),
    "acknowledged": IS_OPEN & Incident.acknowledged_at.is_not(None),
    "closed": ~IS_OPEN,
}


async def open_incident(
    session: AsyncSession,
    *,
    severity: str,
    title: str,
    actor: str,
    model: str | None = None,
    job_id: int | None = None,
    evidence: dict[str, Any] | None = None,
    links: Sequence[Link] = (),
    dedupe: str | None = None,
) -> Incident:
    """`dedupe` names the cause, the model in it: while an incident of that cause is open, no second one is opened.

    The open one counts the occurrence instead, takes the links and the newer figures, and the graver severity.
    """
    values = {
        "severity": severity,
        "title": title,
        "opened_by": actor,
        "model": model,
        "job_id": job_id,
        "evidence": evidence,
        "links": [*links, *([to_job(job_id)] if job_id and not links else [])],
        "dedupe": dedupe,
    }
    added = insert(Incident).values(values)
    incident = (
        await session.scalars(
            added.on_conflict_do_update(
                index_elements=[Incident.dedupe],
                index_where=IS_OPEN & Incident.dedupe.is_not(None),
                set_={
                    "occurrences": Incident.occurrences + 1,
                    "last_at": clock(),
                    "severity": func.least(Incident.severity, added.excluded.severity),
                    "evidence": func.coalesce(
                        Incident.evidence.concat(added.excluded.evidence), Incident.evidence, added.excluded.evidence
                    ),
                    "links": case(
                        (func.jsonb_array_length(Incident.links) >= MOST_LINKS, Incident.links),
                        else_=Incident.links.concat(added.excluded.links),
                    ),
                },
            ).returning(Incident),
            execution_options={"populate_existing": True},
        )
    ).one()
    kind = "incident.opened" if incident.occurrences == 1 else "incident.repeated"
    told = {"id": incident.id, "occurrences": incident.occurrences}
    await record(
        session, kind=kind, actor=actor, model=model, job_id=job_id, after=severity, reason=title, evidence=told
    )
    return incident


async def acknowledge_incident(session: AsyncSession, id: int, *, actor: str, note: str | None) -> Incident:
    """Somebody looks after it from now on. Raises NotFound, or Refused where it is closed or somebody does already."""
    taken: Incident | None = await session.scalar(
        update(Incident)
        .where(Incident.id == id, STATES["unacknowledged"])
        .values(acknowledged_at=clock(), acknowledged_by=actor, acknowledgement=note)
        .returning(Incident)
        .execution_options(populate_existing=True)
    )
    if taken is None:
        known = await get_incident(session, id)
        if known.closed_at is not None:
            raise Refused(f"Incident {id} is closed already.", code="incident_closed")
        raise Refused(
            f"Incident {id} was acknowledged by {known.acknowledged_by} at {known.acknowledged_at:%Y-%m-%d %H:%M} UTC.",
            code="incident_acknowledged",
        )
    await _tell(session, "incident.acknowledged", taken, actor, note)
    return taken


async def close_incident(session: AsyncSession, id: int, *, actor: str, note: str) -> Incident:
    """Raises NotFound, or Refused where it is closed already."""
    closed: Incident | None = await session.scalar(
        update(Incident)
        .where(Incident.id == id, IS_OPEN)
        .values(closed_at=clock(), closed_by=actor, note=note)
        .returning(Incident)
        .execution_options(populate_existing=True)
    )
    if closed is None:
        await get_incident(session, id)
        raise Refused(f"Incident {id} is closed already.", code="incident_closed")
    await _tell(session, "incident.closed", closed, actor, note)
    return closed


async def get_incident(session: AsyncSession, id: int) -> Incident:
    incident = await session.get(Incident, id, populate_existing=True)
    if incident is None:
        raise NotFound(f"No incident has the id {id}.", code="incident_not_found", remedy=INCIDENTS)
    return incident


async def open_p1(session: AsyncSession, model: str) -> Sequence[Incident]:
    """The open P1 incidents that concern `model`: its own, and those of no model, which concern every one."""
    concerns = or_(Incident.model == model, Incident.model.is_(None))
    query = select(Incident).where(Incident.severity == "P1", IS_OPEN, concerns)
    return (await session.scalars(query.order_by(Incident.id))).all()


async def list_incidents(
    session: AsyncSession,
    *,
    state: State = "open",
    severity: str | None = None,
    model: str | None = None,
    after: int | None = None,
    limit: int = 50,
) -> Sequence[Incident]:
    """Newest first, from below the id `after`; one more than `limit`."""
    query = select(Incident).order_by(Incident.id.desc()).limit(limit + 1)
    wanted = (
        STATES[state] if state != "all" else None,
        Incident.severity == severity if severity else None,
        Incident.model == model if model else None,
        Incident.id < after if after else None,
    )
    return (await session.scalars(query.where(*(w for w in wanted if w is not None)))).all()


async def _tell(session: AsyncSession, kind: str, incident: Incident, actor: str, note: str | None) -> None:
    told = {"id": incident.id, "title": incident.title}
    of: dict[str, Any] = {"model": incident.model, "job_id": incident.job_id}
    await record(session, kind=kind, actor=actor, **of, after=incident.severity, reason=note, evidence=told)
