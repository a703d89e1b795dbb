"""What people said of a version after they had read its answers. Append-only: the last word of each reviewer counts."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial


class SignOff(Base):
    """One reviewer's verdict on one version."""

    __tablename__ = "signoffs"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version"], ["model_versions.model", "model_versions.number"]),
        CheckConstraint("verdict IN ('approve', 'reject')", name="verdict_is_known"),
        Index(None, "model", "version", "id"),
    )

    id: Mapped[Serial]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    version: Mapped[int]
    reviewer: Mapped[str] = mapped_column(comment="as the record names them")
    principal: Mapped[str] = mapped_column(comment="the key's id: whoever it is, under whatever name")
    roles: Mapped[list[Any]] = mapped_column(comment="that the reviewer had then")
    verdict: Mapped[str]
    preferences: Mapped[dict[str, Any]] = mapped_column(comment="by prompt of the sheet: candidate, incumbent or tie")
    notes: Mapped[str | None]
    evaluation: Mapped[str] = mapped_column(comment="digest of the evaluation that was read")
    at: Mapped[CreatedAt]
