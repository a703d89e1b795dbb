"""incidents with a cause and somebody who has taken them over, schedules that say what came of them, retention"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
TIME = sa.DateTime(timezone=True)
COLUMNS: dict[str, list[sa.Column[Any]]] = {
    "incidents": [
        sa.Column(
            "links", JSONB, server_default=sa.text("'[]'"), nullable=False, comment="[{kind, id, href}] of the evidence"
        ),
        sa.Column(
            "dedupe", sa.Text(), nullable=True, comment="names the cause: it opens no second one while one is open"
        ),
        sa.Column(
            "occurrences",
            sa.BigInteger(),
            server_default=sa.text("1"),
            nullable=False,
            comment="how often the cause came up",
        ),
        sa.Column(
            "last_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False, comment="when it came up last"
        ),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", TIME, nullable=True),
        sa.Column("acknowledgement", sa.Text(), nullable=True, comment="what whoever took it over had to say"),
    ],
    "training_jobs": [
        sa.Column("overridden", JSONB, nullable=True, comment="the checks that force passed over, with figures"),
    ],
    "workers": [
        sa.Column("gpus", JSONB, nullable=True, comment="[{name, memory_total_mib, memory_free_mib}]; null: none"),
    ],
    "schedule_fires": [
        sa.Column("reason", sa.Text(), nullable=True, comment="why no job came of it"),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
    ],
    "model_versions": [
        sa.Column("artifact_removed_at", TIME, nullable=True, comment="retention took its files; the row stays"),
    ],
}


def upgrade() -> None:
    for table, added in COLUMNS.items():
        for new in added:
            op.add_column(table, new)
    op.execute("UPDATE incidents SET last_at = opened_at")
    op.create_index(
        "one_open_incident_a_cause",
        "incidents",
        ["dedupe"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL AND dedupe IS NOT NULL"),
    )
    op.execute("UPDATE schedule_fires SET reason = outcome, outcome = 'refused' WHERE outcome <> 'fired'")
    op.alter_column("schedule_fires", "outcome", comment="fired, coalesced, refused or missed", existing_comment=None)
    op.create_table(
        "chores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ran_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )


def downgrade() -> None:
    op.drop_table("chores")
    op.alter_column("schedule_fires", "outcome", comment=None, existing_comment="fired, coalesced, refused or missed")
    op.execute("UPDATE schedule_fires SET outcome = coalesce(reason, outcome)")
    op.drop_index("one_open_incident_a_cause", table_name="incidents")
    for table, added in COLUMNS.items():
        for new in added:
            op.drop_column(table, new.name)
