from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial

MONITOR_STATES = ("ok", "pending", "breached", "unknown")


class Incident(Base):
    """Something that people must look at. An open P1 blocks training."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index("open_incidents", "severity", postgresql_where=text("closed_at IS NULL")),
        Index(
            "one_open_incident_a_cause",
            "dedupe",
            unique=True,
            postgresql_where=text("closed_at IS NULL AND dedupe IS NOT NULL"),
        ),
        CheckConstraint("severity IN ('P1', 'P2', 'P3', 'P4')", name="severity_is_known"),
    )

    id: Mapped[Serial]
    model: Mapped[str | None]
    job_id: Mapped[int | None]
    severity: Mapped[str]
    title: Mapped[str]
    evidence: Mapped[dict[str, Any] | None]
    links: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), comment="[{kind, id, href}] of the evidence")
    dedupe: Mapped[str | None] = mapped_column(comment="names the cause: it opens no second one while one is open")
    occurrences: Mapped[int] = mapped_column(server_default=text("1"), comment="how often the cause came up")
    last_at: Mapped[CreatedAt] = mapped_column(comment="when it came up last")
    opened_by: Mapped[str]
    opened_at: Mapped[CreatedAt]
    acknowledged_by: Mapped[str | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledgement: Mapped[str | None] = mapped_column(comment="what whoever took it over had to say")
    closed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    note: Mapped[str | None]


class MonitorRound(Base):
    """When a model's monitors are looked at next, and by which revision of its definition they stand."""

    __tablename__ = "monitor_rounds"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    revision: Mapped[int]
    due_at: Mapped[datetime]


class Monitor(Base):
    """What one monitor of a model says now."""

    __tablename__ = "monitors"
    __table_args__ = (CheckConstraint(f"state IN {MONITOR_STATES}", name="state_is_known"),)

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    since: Mapped[datetime] = mapped_column(comment="when it came into that state")
    version: Mapped[int | None] = mapped_column(comment="that was active")
    numbers: Mapped[dict[str, Any]]
    reason: Mapped[str]
    checked_at: Mapped[datetime]
    due_at: Mapped[datetime]
    outcome: Mapped[str | None] = mapped_column(comment="of its breach: accepted, coalesced, or the code of a refusal")
    job_id: Mapped[int | None]


class MonitorCheck(Base):
    """One look of one monitor: what it decided, and on which numbers. Never changed."""

    __tablename__ = "monitor_checks"
    __table_args__ = (Index(None, "model", "name", "id"), Index(None, "at"))

    id: Mapped[Serial]
    model: Mapped[str]
    name: Mapped[str]
    at: Mapped[CreatedAt]
    version: Mapped[int | None]
    state: Mapped[str]
    numbers: Mapped[dict[str, Any]]
    reason: Mapped[str]
    outcome: Mapped[str | None]
    job_id: Mapped[int | None]


class TrafficLayout(Base):
    """How the vectors of a version's traffic are read; see app/monitoring/layout.py. Never changed."""

    __tablename__ = "traffic_layouts"

    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    told: Mapped[dict[str, Any]]
    at: Mapped[CreatedAt]


class TrafficCounts(Base):
    """What a version answered in one minute, hour or day. Replicas add to the same vector."""

    __tablename__ = "traffic"
    __table_args__ = (
        CheckConstraint("resolution IN ('minute', 'hour', 'day')", name="resolution_is_known"),
        Index(None, "resolution", "at"),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[str] = mapped_column(primary_key=True, comment="active, standby, canary or shadow")
    resolution: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, comment="when that minute, hour or day began, UTC")
    layout: Mapped[str] = mapped_column(primary_key=True)
    counts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
