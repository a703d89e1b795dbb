from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped

from app.db import Base, CreatedAt, Serial


class Incident(Base):
    """Something that people must look at. An open P1 blocks training."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index("open_incidents", "severity", postgresql_where=text("closed_at IS NULL")),
        CheckConstraint("severity IN ('P1', 'P2', 'P3', 'P4')", name="severity_is_known"),
    )

    id: Mapped[Serial]
    model: Mapped[str | None]
    job_id: Mapped[int | None]
    severity: Mapped[str]
    title: Mapped[str]
    evidence: Mapped[dict[str, Any] | None]
    opened_by: Mapped[str]
    opened_at: Mapped[CreatedAt]
    closed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    note: Mapped[str | None]
