"""What was answered, in short; what came back about it; what others measured; and rows that were kept as they came."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, CheckConstraint, DateTime, Index, Integer, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial

STATES = ("pending", "joined", "unknown", "invalid")


class AnswerBlock(Base):
    """The labels that one replica gave in about a second by one version in one slot; see app/feedback/answers.py."""

    __tablename__ = "answer_blocks"
    __table_args__ = (Index(None, "at"), Index(None, "model", "version", "at"))

    block: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    checksum: Mapped[int] = mapped_column(comment="what vouches for the rest of a request id")
    model: Mapped[str]
    version: Mapped[int]
    generation: Mapped[int]
    slot: Mapped[str]
    layout: Mapped[str] = mapped_column(comment="of traffic_layouts; it names heads and labels")
    at: Mapped[CreatedAt]
    requests: Mapped[int]
    rows: Mapped[int]
    width: Mapped[int] = mapped_column(SmallInteger, comment="bytes of a label: 1 or 2")
    offsets: Mapped[bytes | None] = mapped_column(
        comment="uint32, big-endian: the first row of each request, and the end; null: one row each"
    )
    labels: Mapped[bytes] = mapped_column(comment="index of the label, big-endian, by head and then by row")


class MirroredAnswers(Base):
    """Which answers of active a shadow's block mirrors: in one row those of one of active's blocks, in one trial."""

    __tablename__ = "mirrored"
    __table_args__ = (Index(None, "trial", "answered"),)

    block: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="of the shadow's answers")
    trial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    answered: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="the block of active's")
    numbers: Mapped[list[int]] = mapped_column(ARRAY(Integer), comment="of the requests in active's block")
    places: Mapped[list[int]] = mapped_column(ARRAY(Integer), comment="theirs in the shadow's block, in that order")


class Feedback(Base):
    """One label, or one yes or no, as it was sent last about one row of one answer."""

    __tablename__ = "feedback"
    __table_args__ = (
        CheckConstraint("kind IN ('label', 'accepted')", name="kind_is_known"),
        CheckConstraint(f"state IN {STATES}", name="state_is_known"),
        Index("pending_feedback", "model", "try_at", postgresql_where=text("state = 'pending'")),
        Index("joined_feedback", "model", "version", "slot", "answered_at", postgresql_where=text("state = 'joined'")),
        Index("unknown_feedback", "model", "at", postgresql_where=text("state = 'unknown'")),
    )

    request: Mapped[uuid.UUID] = mapped_column(UUID, primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    head: Mapped[str] = mapped_column(primary_key=True, comment="empty: the first")
    kind: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    value: Mapped[Any] = mapped_column(JSONB, comment="the label, or true or false")
    sender: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), comment="when this value came")
    state: Mapped[str]
    why: Mapped[str | None] = mapped_column(comment="of an invalid one")
    try_at: Mapped[datetime] = mapped_column(comment="when the answer is looked for next")
    version: Mapped[int | None]
    slot: Mapped[str | None]
    answered_at: Mapped[datetime | None]
    truth: Mapped[int | None] = mapped_column(comment="index of the label, or 1 and 0")
    predicted: Mapped[int | None]


class FeedbackCounts(Base):
    """Truth against prediction, by the minute in which the truth came. Kept true with `feedback`, for ever."""

    __tablename__ = "feedback_counts"

    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[str] = mapped_column(primary_key=True)
    head: Mapped[str] = mapped_column(primary_key=True, comment="empty: the first")
    kind: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    truth: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    predicted: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int]


class LearningStats(Base):
    """What one learning cycle came to: runbook 003's `learning_stats`."""

    __tablename__ = "learning_stats"
    __table_args__ = (
        Index(None, "model", "id"),
        Index(None, "model", "cycle", unique=True, postgresql_where=text("cycle IS NOT NULL")),
        Index(None, "sender_key", unique=True),
        CheckConstraint("accept_rate BETWEEN 0 AND 1", name="accept_rate_is_a_share"),
    )

    id: Mapped[Serial]
    model: Mapped[str]
    cycle: Mapped[str | None]
    accept_rate: Mapped[float]
    accepted: Mapped[int | None]
    rejected: Mapped[int | None]
    metrics: Mapped[dict[str, Any]]
    sender: Mapped[str]
    sender_key: Mapped[str | None] = mapped_column(comment="the Idempotency-Key with whoever sent it")
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    received_at: Mapped[CreatedAt]


class MetricPoint(Base):
    """One value of a metric that somebody else measured: BLEU, ROUGE, empathy, whatever it is called."""

    __tablename__ = "metric_points"
    __table_args__ = (
        Index(None, "model", "name", "at"),
        Index(None, "model", "name", "version", "source", "at", unique=True, postgresql_nulls_not_distinct=True),
        Index(None, "sender_key", unique=True),
    )

    id: Mapped[Serial]
    model: Mapped[str]
    version: Mapped[int | None]
    name: Mapped[str]
    value: Mapped[float]
    n: Mapped[int | None] = mapped_column(comment="of how many it is the mean")
    source: Mapped[str]
    sender: Mapped[str]
    sender_key: Mapped[str | None] = mapped_column(comment="the Idempotency-Key with whoever sent it, and the place")
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


class PredictionLog(Base):
    """One request as the version read it, with its answer: personal data, kept by sampling and for days only."""

    __tablename__ = "prediction_log"
    __table_args__ = (Index(None, "model", "id"), Index(None, "at"))

    id: Mapped[Serial]
    at: Mapped[CreatedAt]
    model: Mapped[str]
    version: Mapped[int]
    generation: Mapped[int]
    slot: Mapped[str]
    request: Mapped[uuid.UUID] = mapped_column(UUID)
    rows: Mapped[list[Any]]
    answers: Mapped[dict[str, Any]]
    keep_until: Mapped[datetime]
