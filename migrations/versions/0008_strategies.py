"""a training may start from the active version: which types can, what a job asked for, and what it started from"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "model_types",
        sa.Column(
            "incremental",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="whether a training can start from the active version",
        ),
    )
    op.add_column(
        "training_jobs",
        sa.Column(
            "strategy",
            sa.Text(),
            nullable=False,
            server_default=sa.text("'full'"),
            comment="as asked for: full, or incremental",
        ),
    )
    op.add_column(
        "training_jobs",
        sa.Column("base", sa.BigInteger(), nullable=True, comment="the version that an incremental one starts from"),
    )
    op.create_check_constraint("strategy_is_known", "training_jobs", "strategy IN ('full', 'incremental')")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_training_jobs_strategy_is_known"), "training_jobs")
    op.drop_column("training_jobs", "base")
    op.drop_column("training_jobs", "strategy")
    op.drop_column("model_types", "incremental")
