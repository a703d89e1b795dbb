from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial

MONITOR_STATES = ("ok", "pending", "breached", "unknown")


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
