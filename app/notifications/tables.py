"""Who is told what, and every message with its tries."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial

TYPES = ("webhook", "apprise")
STATES = ("pending", "delivered", "failed")


class Target(Base):
    """Where messages go. URL, headers and secrets are never shown again: any of them may be a password."""

    __tablename__ = "notification_targets"
    __table_args__ = (
        CheckConstraint(f"type IN {TYPES}", name="type_is_known"),
        CheckConstraint("(type = 'webhook') = (secret IS NOT NULL)", name="webhooks_are_signed"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    url: Mapped[str]
    headers: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    secret: Mapped[str | None]
    previous_secret: Mapped[str | None] = mapped_column(comment="signs beside the present one after a rotation")
    previous_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    failures: Mapped[int] = mapped_column(server_default=text("0"), comment="tries that failed since one did not")
    error: Mapped[str | None] = mapped_column(comment="of the last try")
    created_at: Mapped[CreatedAt]
    created_by: Mapped[str]


class Rule(Base):
    """Which events are told to a target, how many in one message, and how often the same."""

    __tablename__ = "notification_rules"

    name: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(ForeignKey("notification_targets.name"))
    model: Mapped[str | None] = mapped_column(ForeignKey("models.name"), comment="null: every model")
    kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    min_severity: Mapped[str | None] = mapped_column(comment="of incidents; P1 is the gravest")
    group_seconds: Mapped[float]
    cooldown_seconds: Mapped[float]
    enabled: Mapped[bool]
    created_at: Mapped[CreatedAt]
    created_by: Mapped[str]


class Cooldown(Base):
    """When a rule last told its target of a subject, and how often it has kept silent of it since."""

    __tablename__ = "notification_cooldowns"

    rule: Mapped[str] = mapped_column(ForeignKey("notification_rules.name", ondelete="CASCADE"), primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True, comment="kind, model and severity")
    until: Mapped[datetime]
    delivery: Mapped[int]
    suppressed: Mapped[int] = mapped_column(server_default=text("0"))


class Delivery(Base):
    """One message to one target. `message` is its id, the same in every try and in every redelivery.

    While `gather_until` has not passed, and nobody has tried yet, more events of its rule may join it.
    """

    __tablename__ = "notification_deliveries"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state_is_known"),
        Index("due_deliveries", "target", "next_at", postgresql_where=text("state = 'pending'")),
        Index("gathering_deliveries", "rule", postgresql_where=text("state = 'pending' AND attempts = 0")),
        Index(None, "target", "id"),
    )

    id: Mapped[Serial]
    message: Mapped[str] = mapped_column(unique=True)
    target: Mapped[str]
    rule: Mapped[str]
    kind: Mapped[str] = mapped_column(comment="of its events; events.grouped where they differ")
    model: Mapped[str | None] = mapped_column(comment="of its events, where they have one in common")
    events: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    suppressed: Mapped[int] = mapped_column(server_default=text("0"), comment="equal ones that were not told before it")
    state: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default=text("0"), comment="since it was made or asked for again")
    next_at: Mapped[datetime]
    gather_until: Mapped[datetime]
    lease: Mapped[uuid.UUID | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(comment="of the last try")
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]


class Try(Base):
    """One attempt to deliver. What the target answered is not kept beyond its status: it is nobody's business here."""

    __tablename__ = "notification_tries"
    __table_args__ = (Index(None, "delivery", "id"),)

    id: Mapped[Serial]
    delivery: Mapped[int] = mapped_column(ForeignKey("notification_deliveries.id"))
    attempt: Mapped[int]
    at: Mapped[CreatedAt] = mapped_column(comment="when it ended")
    status: Mapped[int | None] = mapped_column(comment="of HTTP")
    ms: Mapped[float]
    error: Mapped[str | None] = mapped_column(comment="null: it was delivered")
