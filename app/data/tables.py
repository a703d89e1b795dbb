"""Data versions, the samples that were posted, and what others reported about the quality of the data."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial

STATUSES = ("healthy", "warning", "critical")

# What the rows of a data version are for: to be trained on and judged by, or to say what is preferred to what.
Role = Literal["training", "preference"]
TRAINING: Role = "training"
PREFERENCE: Role = "preference"


class DataVersion(Base):
    """One immutable snapshot of a model's data; `snapshots/<digest>.parquet` holds its rows. Never changed."""

    __tablename__ = "data_versions"
    __table_args__ = (
        Index(None, "model", "created_at"),
        CheckConstraint("role IN ('training', 'preference')", name="role_is_known"),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True, comment="sha256 of the Parquet file")
    role: Mapped[str] = mapped_column(
        server_default=text("'training'"), comment="training, or preference: what is preferred to what"
    )
    rows: Mapped[int]
    counts: Mapped[dict[str, Any]] = mapped_column(comment="rows by split: train, validation, holdout, retired")
    dropped: Mapped[dict[str, Any]] = mapped_column(comment="rows left out, by what they lack: label, key, time, text")
    duplicates: Mapped[int] = mapped_column(comment="rows whose key (without one: features) another row has too")
    texts: Mapped[dict[str, Any] | None] = mapped_column(
        comment="rows merged, contradictory, near_duplicates, retired, moved; see app/data/duplicates.py"
    )
    labels: Mapped[list[Any]] = mapped_column(comment="[{column, label, rows}], the most frequent first")
    columns: Mapped[list[Any]] = mapped_column(comment="[{name, type}]")
    split: Mapped[dict[str, Any]] = mapped_column(comment="what keeps every row on its side; see app/data/splits.py")
    labelling: Mapped[dict[str, Any] | None] = mapped_column(
        comment="who gave the labels, and how far they agree with those before; see app/data/labelling.py"
    )
    high_water: Mapped[str | None] = mapped_column(comment="the newest time; without times the number of rows")
    source: Mapped[dict[str, Any]] = mapped_column(comment="the source's options, secrets masked")
    bytes: Mapped[int]
    job_id: Mapped[int | None]
    created_at: Mapped[CreatedAt]


class Sample(Base):
    """One labelled row that was posted. `id` is its place in the order of first receipt, for ever."""

    __tablename__ = "samples"
    __table_args__ = (UniqueConstraint("model", "key"), Index(None, "model", "id"))

    id: Mapped[Serial]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    key: Mapped[str]
    row: Mapped[dict[str, Any]]
    received_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp(), comment="when this content came"
    )


class DataQuality(Base):
    """One report of a data quality check that somebody else ran. No model: it speaks of all of them."""

    __tablename__ = "data_quality"
    __table_args__ = (CheckConstraint(f"status IN {STATUSES}", name="status_is_known"), Index(None, "at"))

    id: Mapped[Serial]
    model: Mapped[str | None] = mapped_column(ForeignKey("models.name"))
    status: Mapped[str]
    source: Mapped[str] = mapped_column(comment="the check that reports")
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    at: Mapped[CreatedAt]
