"""Versions, and the dual slot: one row a model says what is active and what is standby. `swap.py` alone writes it."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial


class ModelVersion(Base):
    """One immutable result of training. The row is the publication: an artifact without one does not exist."""

    __tablename__ = "model_versions"
    __table_args__ = (Index(None, "job_id", unique=True),)

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("training_jobs.id"))
    definition_revision: Mapped[int]
    data_version: Mapped[str]
    format: Mapped[str]
    artifact: Mapped[str] = mapped_column(comment="sha256 of the manifest")
    size: Mapped[int] = mapped_column(comment="bytes")
    metrics: Mapped[dict[str, Any]]
    details: Mapped[dict[str, Any]]
    gate: Mapped[dict[str, Any]]
    verdict: Mapped[str]
    incumbent: Mapped[int | None] = mapped_column(comment="the version that the gate compared with")
    created_at: Mapped[CreatedAt]
    artifact_removed_at: Mapped[datetime | None] = mapped_column(comment="retention took its files; the row stays")


def _version_key(column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["model", column], ["model_versions.model", "model_versions.number"])


class ModelSlots(Base):
    __tablename__ = "model_slots"
    __table_args__ = (
        _version_key("active"),
        _version_key("standby"),
        _version_key("previous"),
        CheckConstraint("active IS DISTINCT FROM standby OR active IS NULL", name="slots_differ"),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    active: Mapped[int | None]
    standby: Mapped[int | None]
    previous: Mapped[int | None] = mapped_column(comment="where a rollback goes")
    generation: Mapped[int] = mapped_column(server_default=text("0"), comment="counts changes of active")
    revision: Mapped[int] = mapped_column(server_default=text("0"), comment="counts every change; the ETag")
    hold_reason: Mapped[str | None]
    watch_until: Mapped[datetime | None] = mapped_column(comment="standby is the rollback target until then")


class SlotHistory(Base):
    """A row for every change of a model's slots, in the transaction of the change. Append-only by a trigger."""

    __tablename__ = "slot_history"
    __table_args__ = (Index(None, "model", "at"),)

    id: Mapped[Serial]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    at: Mapped[CreatedAt]
    action: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str | None]
    active: Mapped[int | None]
    standby: Mapped[int | None]
    previous: Mapped[int | None]
    generation: Mapped[int]
    revision: Mapped[int]
    hold_reason: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]


class ReplicaSlots(Base):
    """What one replica really holds of one model: its receipt, its warm standby, or why it has none.

    The row lives as long as its lease. `served` is the newest generation that the replica answers with.
    """

    __tablename__ = "replica_slots"

    replica: Mapped[uuid.UUID] = mapped_column(UUID, primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    lease_until: Mapped[datetime]
    served: Mapped[int]
    served_at: Mapped[datetime | None] = mapped_column(comment="when it began to answer with that generation")
    warm: Mapped[int | None] = mapped_column(comment="the standby version that is loaded, verified and smoke-tested")
    smoke: Mapped[dict[str, Any] | None] = mapped_column(comment="of the warm version: {inputs, passed, p99_seconds}")
    error: Mapped[str | None]
