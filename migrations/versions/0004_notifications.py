"""the outbox, and who is told of what"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notification_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="of its events; events.grouped where they differ"),
        sa.Column("model", sa.Text(), nullable=True, comment="of its events, where they have one in common"),
        sa.Column("events", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column(
            "suppressed",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="equal ones that were not told before it",
        ),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column(
            "attempts",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="since it was made or asked for again",
        ),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gather_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease", sa.UUID(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True, comment="of the last try"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("ck_notification_deliveries_state_is_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_deliveries")),
        sa.UniqueConstraint("message", name=op.f("uq_notification_deliveries_message")),
    )
    op.create_index(
        "due_deliveries",
        "notification_deliveries",
        ["target", "next_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "gathering_deliveries",
        "notification_deliveries",
        ["rule"],
        unique=False,
        postgresql_where=sa.text("state = 'pending' AND attempts = 0"),
    )
    op.create_index(
        op.f("ix_notification_deliveries_target_id"), "notification_deliveries", ["target", "id"], unique=False
    )
    op.create_table(
        "notification_targets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("previous_secret", sa.Text(), nullable=True, comment="signs beside the present one after a rotation"),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "failures",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="tries that failed since one did not",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="of the last try"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(type = 'webhook') = (secret IS NOT NULL)", name=op.f("ck_notification_targets_webhooks_are_signed")
        ),
        sa.CheckConstraint("type IN ('webhook', 'apprise')", name=op.f("ck_notification_targets_type_is_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notification_targets")),
    )
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "notification_rules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True, comment="null: every model"),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("min_severity", sa.Text(), nullable=True, comment="of incidents; P1 is the gravest"),
        sa.Column("group_seconds", sa.Double(), nullable=False),
        sa.Column("cooldown_seconds", sa.Double(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_notification_rules_model_models")),
        sa.ForeignKeyConstraint(
            ["target"], ["notification_targets.name"], name=op.f("fk_notification_rules_target_notification_targets")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notification_rules")),
    )
    op.create_table(
        "notification_tries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("delivery", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it ended",
        ),
        sa.Column("status", sa.BigInteger(), nullable=True, comment="of HTTP"),
        sa.Column("ms", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True, comment="null: it was delivered"),
        sa.ForeignKeyConstraint(
            ["delivery"],
            ["notification_deliveries.id"],
            name=op.f("fk_notification_tries_delivery_notification_deliveries"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_tries")),
    )
    op.create_index(op.f("ix_notification_tries_delivery_id"), "notification_tries", ["delivery", "id"], unique=False)
    op.create_table(
        "notification_cooldowns",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="kind, model and severity"),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivery", sa.BigInteger(), nullable=False),
        sa.Column("suppressed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule"],
            ["notification_rules.name"],
            name=op.f("fk_notification_cooldowns_rule_notification_rules"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("rule", "subject", name=op.f("pk_notification_cooldowns")),
    )


def downgrade() -> None:
    op.drop_table("notification_cooldowns")
    op.drop_index(op.f("ix_notification_tries_delivery_id"), table_name="notification_tries")
    op.drop_table("notification_tries")
    op.drop_table("notification_rules")
    op.drop_table("outbox")
    op.drop_table("notification_targets")
    op.drop_index(op.f("ix_notification_deliveries_target_id"), table_name="notification_deliveries")
    op.drop_index(
        "gathering_deliveries",
        table_name="notification_deliveries",
        postgresql_where=sa.text("state = 'pending' AND attempts = 0"),
    )
    op.drop_index("due_deliveries", table_name="notification_deliveries", postgresql_where=sa.text("state = 'pending'"))
    op.drop_table("notification_deliveries")
