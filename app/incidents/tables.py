from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial


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
