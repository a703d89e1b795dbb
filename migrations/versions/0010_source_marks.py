"""what the sources looked like when a job read them, so that a confirmation dies with what changes in place"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "training_jobs",
        sa.Column(
            "source_marks",
            postgresql.JSONB(astext_type=sa.Text(), none_as_null=True),
            nullable=True,
            comment="what the sources that it read looked like then: data, preferences",
        ),
    )


def downgrade() -> None:
    op.drop_column("training_jobs", "source_marks")
