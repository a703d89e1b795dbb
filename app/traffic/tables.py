from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt


class TrafficLayout(Base):
    """How the vectors of a version's traffic are read; see app/traffic/layout.py. Never changed."""

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
