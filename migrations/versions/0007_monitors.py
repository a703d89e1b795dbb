"""monitors and what they found, watches, and the numbers for which a job was triggered"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text(), none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def model(*, is_key: bool = False) -> sa.Column[str]:
    return sa.Column("model", sa.Text(), sa.ForeignKey("models.name"), nullable=False, primary_key=is_key)


def upgrade() -> None:
    op.create_table(
        "monitor_rounds",
        model(is_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("due_at", TIME, nullable=False),
    )
    op.create_table(
        "monitors",
        model(is_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False, comment="when it came into that state"),
        sa.Column("version", sa.BigInteger(), nullable=True, comment="that was active"),
        sa.Column("numbers", JSONB, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("checked_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column(
            "outcome", sa.Text(), nullable=True, comment="of its breach: accepted, coalesced, or the code of a refusal"
        ),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('ok', 'pending', 'breached', 'unknown')", name="state_is_known"),
    )
    op.create_table(
        "monitor_checks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False, server_default=NOW),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("numbers", JSONB, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
    )
    op.create_index(op.f("ix_monitor_checks_model_name_id"), "monitor_checks", ["model", "name", "id"])
    op.create_index(op.f("ix_monitor_checks_at"), "monitor_checks", ["at"])
    op.create_table(
        "watches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        model(),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("previous", sa.BigInteger(), nullable=False, comment="where a rollback goes"),
        sa.Column("state", sa.Text(), nullable=False, server_default=sa.text("'watching'")),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column(
            "counts_from",
            TIME,
            nullable=False,
            comment="a minute later where the version was active in that one before",
        ),
        sa.Column("until", TIME, nullable=False),
        sa.Column("promised", JSONB, nullable=True, comment="by check; see app/watch/promise.py"),
        sa.Column("numbers", JSONB, nullable=True, comment="as they were at the last look"),
        sa.Column("looked_at", TIME, nullable=True),
        sa.Column("breached_at", TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.UniqueConstraint("model", "generation"),
        sa.CheckConstraint(
            "state IN ('watching', 'passed', 'rolled_back', 'held', 'inconclusive', 'superseded')",
            name="state_is_known",
        ),
        sa.CheckConstraint("(state = 'watching') = (ended_at IS NULL)", name="ended_has_a_time"),
    )
    op.create_index("running_watches", "watches", ["id"], postgresql_where=sa.text("state = 'watching'"))
    op.add_column(
        "training_jobs",
        sa.Column("because", JSONB, nullable=True, comment="the numbers of the monitors that triggered it"),
    )


def downgrade() -> None:
    op.drop_column("training_jobs", "because")
    for table in ("watches", "monitor_checks", "monitors", "monitor_rounds"):
        op.drop_table(table)
