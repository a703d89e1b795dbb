"""The record: everything that decides leaves a row here. A trigger in the database refuses UPDATE and DELETE."""

from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (Index(None, "model", "id"), Index(None, "job_id", "id"), Index(None, "kind", "id"))

    id: Mapped[Serial]
    at: Mapped[CreatedAt]
    kind: Mapped[str]
    actor: Mapped[str]
    model: Mapped[str | None]
    job_id: Mapped[int | None]
    version: Mapped[int | None]
    before: Mapped[str | None]
    after: Mapped[str | None]
    reason: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]


class Outbox(Base):
    """The events of which nobody has looked yet who must be told. Written with the event, in one statement."""

    __tablename__ = "outbox"

    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
