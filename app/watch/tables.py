from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Serial

STATES = ("watching", "passed", "rolled_back", "held", "inconclusive", "superseded")


class Watch(Base):
    """The watch of one swap. `app/watch/life.py` alone changes its state."""

    __tablename__ = "watches"
    __table_args__ = (
        UniqueConstraint("model", "generation"),
        CheckConstraint(f"state IN {STATES}", name="state_is_known"),
        CheckConstraint("(state = 'watching') = (ended_at IS NULL)", name="ended_has_a_time"),
        Index("running_watches", "id", postgresql_where=text("state = 'watching'")),
    )

    id: Mapped[Serial]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    generation: Mapped[int]
    version: Mapped[int]
    previous: Mapped[int] = mapped_column(comment="where a rollback goes")
    state: Mapped[str] = mapped_column(server_default=text("'watching'"))
    started_at: Mapped[datetime]
    counts_from: Mapped[datetime] = mapped_column(
        comment="a minute later where the version was active in that one before"
    )
    until: Mapped[datetime]
    promised: Mapped[dict[str, Any] | None] = mapped_column(comment="by check; see app/watch/promise.py")
    numbers: Mapped[dict[str, Any] | None] = mapped_column(comment="as they were at the last look")
    looked_at: Mapped[datetime | None]
    breached_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    ended_at: Mapped[datetime | None]
