"""language models: costly types and their confirmation, stages, preferences as data versions, sign-offs"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text(), none_as_null=True)
STRATEGIES = "strategy IN ('full', 'incremental'{})"


def upgrade() -> None:
    op.add_column(
        "model_types",
        sa.Column(
            "costly",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="off until allowed by name, and each training needs a dry run's token",
        ),
    )
    op.add_column(
        "model_types",
        sa.Column(
            "pulls",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="whether a version can be fetched that somebody else has trained",
        ),
    )
    op.add_column(
        "training_jobs",
        sa.Column("confirms", sa.BigInteger(), nullable=True, comment="the dry run whose token the trigger brought"),
    )
    op.add_column(
        "training_jobs",
        sa.Column("confirmation", sa.Text(), nullable=True, comment="of a dry run: the token that confirms its plan"),
    )
    op.add_column(
        "training_jobs",
        sa.Column(
            "preference_digest",
            sa.Text(),
            nullable=True,
            comment="the data version of preferences it really took",
        ),
    )
    op.add_column(
        "training_jobs",
        sa.Column(
            "evaluation",
            sa.Text(),
            nullable=True,
            comment="of a language model: digest of its answers and their scores",
        ),
    )
    _stages("null: all; snapshot, label: only a data version is made; else stages of the type")
    _strategies(", 'pull'", "as asked for: full, incremental, pull")
    op.add_column(
        "data_versions",
        sa.Column(
            "role",
            sa.Text(),
            nullable=False,
            server_default=sa.text("'training'"),
            comment="training, or preference: what is preferred to what",
        ),
    )
    op.create_check_constraint("role_is_known", "data_versions", "role IN ('training', 'preference')")
    op.create_table(
        "signoffs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("model", sa.Text(), sa.ForeignKey("models.name"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False, comment="as the record names them"),
        sa.Column("principal", sa.Text(), nullable=False, comment="the key's id: whoever it is, under whatever name"),
        sa.Column("roles", JSONB, nullable=False, comment="that the reviewer had then"),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("preferences", JSONB, nullable=False, comment="by prompt of the sheet: candidate, incumbent or tie"),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("evaluation", sa.Text(), nullable=False, comment="digest of the evaluation that was read"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.ForeignKeyConstraint(["model", "version"], ["model_versions.model", "model_versions.number"]),
        sa.CheckConstraint("verdict IN ('approve', 'reject')", name="verdict_is_known"),
    )
    op.create_index(None, "signoffs", ["model", "version", "id"])
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signoffs "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    op.drop_table("signoffs")
    op.drop_constraint(op.f("ck_data_versions_role_is_known"), "data_versions")
    op.drop_column("data_versions", "role")
    _strategies("", "as asked for: full, or incremental")
    _stages("null: all; snapshot, label: only a data version is made")
    op.drop_column("training_jobs", "evaluation")
    op.drop_column("training_jobs", "preference_digest")
    op.drop_column("training_jobs", "confirmation")
    op.drop_column("training_jobs", "confirms")
    op.drop_column("model_types", "pulls")
    op.drop_column("model_types", "costly")


def _strategies(more: str, comment: str) -> None:
    op.drop_constraint(op.f("ck_training_jobs_strategy_is_known"), "training_jobs")
    op.create_check_constraint("strategy_is_known", "training_jobs", STRATEGIES.format(more))
    op.alter_column("training_jobs", "strategy", comment=comment, existing_type=sa.Text(), existing_nullable=False)


def _stages(comment: str) -> None:
    op.alter_column("training_jobs", "stages", comment=comment, existing_type=postgresql.ARRAY(sa.Text()))
