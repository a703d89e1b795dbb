"""Trials: standby shows what it can on real requests, before it is swapped in."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial


class Trial(Base):
    """A canary, where standby answers a share of the callers; or a shadow, where it answers nobody and is compared."""

    __tablename__ = "trials"
    __table_args__ = (
        Index("one_running_trial", "model", unique=True, postgresql_where=text("state = 'running'")),
        Index(None, "model", "id"),
        CheckConstraint("kind IN ('canary', 'shadow')", name="kind_is_known"),
        CheckConstraint("state IN ('running', 'ended')", name="state_is_known"),
    )

    id: Mapped[Serial]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    kind: Mapped[str]
    share: Mapped[float] = mapped_column(comment="of the callers' keys (canary) or of the requests (shadow)")
    active: Mapped[int]
    standby: Mapped[int]
    salt: Mapped[str] = mapped_column(comment="so that another trial meets other callers")
    reason: Mapped[str]
    started_by: Mapped[str]
    started_at: Mapped[CreatedAt]
    ends_at: Mapped[datetime]
    max_requests: Mapped[int | None]
    state: Mapped[str] = mapped_column(server_default=text("'running'"))
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    why: Mapped[str | None] = mapped_column(comment="it ended")
    requests: Mapped[int] = mapped_column(server_default=text("0"), comment="that standby answered")
    rows: Mapped[int] = mapped_column(server_default=text("0"), comment="compared, of a shadow")
    agreed: Mapped[int] = mapped_column(server_default=text("0"), comment="rows to which both gave the same labels")
    difference: Mapped[float] = mapped_column(server_default=text("0"), comment="sum of |score - score| over the rows")
    dropped: Mapped[int] = mapped_column(server_default=text("0"), comment="requests that were not mirrored in time")
