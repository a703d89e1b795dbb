"""what is answered and what comes back: traffic, answers, feedback, metrics, logged requests, trials"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answer_blocks",
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("checksum", sa.BigInteger(), nullable=False, comment="what vouches for the rest of a request id"),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False, comment="of traffic_layouts; it names heads and labels"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.SmallInteger(), nullable=False, comment="bytes of a label: 1 or 2"),
        sa.Column(
            "offsets",
            sa.LargeBinary(),
            nullable=True,
            comment="uint32, big-endian: the first row of each request, and the end; null: one row each",
        ),
        sa.Column(
            "labels",
            sa.LargeBinary(),
            nullable=False,
            comment="index of the label, big-endian, by head and then by row",
        ),
        sa.PrimaryKeyConstraint("block", name=op.f("pk_answer_blocks")),
    )
    op.create_index(op.f("ix_answer_blocks_at"), "answer_blocks", ["at"], unique=False)
    op.create_index(
        op.f("ix_answer_blocks_model_version_at"), "answer_blocks", ["model", "version", "at"], unique=False
    )
    op.create_table(
        "feedback",
        sa.Column("request", sa.UUID(), nullable=False),
        sa.Column("row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("head", sa.Text(), nullable=False, comment="empty: the first"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column(
            "value", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the label, or true or false"
        ),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when this value came"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True, comment="of an invalid one"),
        sa.Column("try_at", sa.DateTime(timezone=True), nullable=False, comment="when the answer is looked for next"),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("slot", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("truth", sa.BigInteger(), nullable=True, comment="index of the label, or 1 and 0"),
        sa.Column("predicted", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('label', 'accepted')", name=op.f("ck_feedback_kind_is_known")),
        sa.CheckConstraint(
            "state IN ('pending', 'joined', 'unknown', 'invalid')", name=op.f("ck_feedback_state_is_known")
        ),
        sa.PrimaryKeyConstraint("request", "row", "head", "kind", name=op.f("pk_feedback")),
    )
    op.create_index(
        "joined_feedback",
        "feedback",
        ["model", "version", "slot", "answered_at"],
        unique=False,
        postgresql_where=sa.text("state = 'joined'"),
    )
    op.create_index(
        "pending_feedback", "feedback", ["model", "try_at"], unique=False, postgresql_where=sa.text("state = 'pending'")
    )
    op.create_index(
        "unknown_feedback", "feedback", ["model", "at"], unique=False, postgresql_where=sa.text("state = 'unknown'")
    )
    op.create_table(
        "feedback_counts",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False, comment="empty: the first"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("truth", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("predicted", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "version", "slot", "head", "kind", "at", "truth", "predicted", name=op.f("pk_feedback_counts")
        ),
    )
    op.create_table(
        "learning_stats",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("cycle", sa.Text(), nullable=True),
        sa.Column("accept_rate", sa.Double(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=True),
        sa.Column("rejected", sa.BigInteger(), nullable=True),
        sa.Column("metrics", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("sender_key", sa.Text(), nullable=True, comment="the Idempotency-Key with whoever sent it"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column(
            "received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("accept_rate BETWEEN 0 AND 1", name=op.f("ck_learning_stats_accept_rate_is_a_share")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_learning_stats")),
    )
    op.create_index(
        op.f("ix_learning_stats_model_cycle"),
        "learning_stats",
        ["model", "cycle"],
        unique=True,
        postgresql_where=sa.text("cycle IS NOT NULL"),
    )
    op.create_index(op.f("ix_learning_stats_model_id"), "learning_stats", ["model", "id"], unique=False)
    op.create_index(op.f("ix_learning_stats_sender_key"), "learning_stats", ["sender_key"], unique=True)
    op.create_table(
        "metric_points",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=True, comment="of how many it is the mean"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column(
            "sender_key", sa.Text(), nullable=True, comment="the Idempotency-Key with whoever sent it, and the place"
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_points")),
    )
    op.create_index(op.f("ix_metric_points_model_name_at"), "metric_points", ["model", "name", "at"], unique=False)
    op.create_index(
        op.f("ix_metric_points_model_name_version_source_at"),
        "metric_points",
        ["model", "name", "version", "source", "at"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(op.f("ix_metric_points_sender_key"), "metric_points", ["sender_key"], unique=True)
    op.create_table(
        "mirrored",
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False, comment="of the shadow's answers"),
        sa.Column("trial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("answered", sa.BigInteger(), autoincrement=False, nullable=False, comment="the block of active's"),
        sa.Column("numbers", sa.ARRAY(sa.Integer()), nullable=False, comment="of the requests in active's block"),
        sa.Column(
            "places", sa.ARRAY(sa.Integer()), nullable=False, comment="theirs in the shadow's block, in that order"
        ),
        sa.PrimaryKeyConstraint("block", "trial", "answered", name=op.f("pk_mirrored")),
    )
    op.create_index(op.f("ix_mirrored_trial_answered"), "mirrored", ["trial", "answered"], unique=False)
    op.create_table(
        "prediction_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("request", sa.UUID(), nullable=False),
        sa.Column("rows", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("answers", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("keep_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prediction_log")),
    )
    op.create_index(op.f("ix_prediction_log_at"), "prediction_log", ["at"], unique=False)
    op.create_index(op.f("ix_prediction_log_model_id"), "prediction_log", ["model", "id"], unique=False)
    op.create_table(
        "traffic",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False, comment="active, standby, canary or shadow"),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when that minute, hour or day began, UTC"),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("counts", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.CheckConstraint("resolution IN ('minute', 'hour', 'day')", name=op.f("ck_traffic_resolution_is_known")),
        sa.PrimaryKeyConstraint("model", "version", "slot", "resolution", "at", "layout", name=op.f("pk_traffic")),
    )
    op.create_index(op.f("ix_traffic_resolution_at"), "traffic", ["resolution", "at"], unique=False)
    op.create_table(
        "traffic_layouts",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("told", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "digest", name=op.f("pk_traffic_layouts")),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "share", sa.Double(), nullable=False, comment="of the callers' keys (canary) or of the requests (shadow)"
        ),
        sa.Column("active", sa.BigInteger(), nullable=False),
        sa.Column("standby", sa.BigInteger(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False, comment="so that another trial meets other callers"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("max_requests", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True, comment="it ended"),
        sa.Column(
            "requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="that standby answered"
        ),
        sa.Column(
            "rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="compared, of a shadow"
        ),
        sa.Column(
            "agreed",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="rows to which both gave the same labels",
        ),
        sa.Column(
            "difference",
            sa.Double(),
            server_default=sa.text("0"),
            nullable=False,
            comment="sum of |score - score| over the rows",
        ),
        sa.Column(
            "dropped",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="requests that were not mirrored in time",
        ),
        sa.CheckConstraint("kind IN ('canary', 'shadow')", name=op.f("ck_trials_kind_is_known")),
        sa.CheckConstraint("state IN ('running', 'ended')", name=op.f("ck_trials_state_is_known")),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_trials_model_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
    )
    op.create_index(op.f("ix_trials_model_id"), "trials", ["model", "id"], unique=False)
    op.create_index(
        "one_running_trial", "trials", ["model"], unique=True, postgresql_where=sa.text("state = 'running'")
    )
    # Slices of a few bytes are read out of the middle.
    for column in ("offsets", "labels"):
        op.execute(f"ALTER TABLE answer_blocks ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_index("one_running_trial", table_name="trials", postgresql_where=sa.text("state = 'running'"))
    op.drop_index(op.f("ix_trials_model_id"), table_name="trials")
    op.drop_table("trials")
    op.drop_table("traffic_layouts")
    op.drop_index(op.f("ix_traffic_resolution_at"), table_name="traffic")
    op.drop_table("traffic")
    op.drop_index(op.f("ix_prediction_log_model_id"), table_name="prediction_log")
    op.drop_index(op.f("ix_prediction_log_at"), table_name="prediction_log")
    op.drop_table("prediction_log")
    op.drop_index(op.f("ix_mirrored_trial_answered"), table_name="mirrored")
    op.drop_table("mirrored")
    op.drop_index(op.f("ix_metric_points_sender_key"), table_name="metric_points")
    op.drop_index(
        op.f("ix_metric_points_model_name_version_source_at"),
        table_name="metric_points",
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(op.f("ix_metric_points_model_name_at"), table_name="metric_points")
    op.drop_table("metric_points")
    op.drop_index(op.f("ix_learning_stats_sender_key"), table_name="learning_stats")
    op.drop_index(op.f("ix_learning_stats_model_id"), table_name="learning_stats")
    op.drop_index(
        op.f("ix_learning_stats_model_cycle"),
        table_name="learning_stats",
        postgresql_where=sa.text("cycle IS NOT NULL"),
    )
    op.drop_table("learning_stats")
    op.drop_table("feedback_counts")
    op.drop_index("unknown_feedback", table_name="feedback", postgresql_where=sa.text("state = 'unknown'"))
    op.drop_index("pending_feedback", table_name="feedback", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("joined_feedback", table_name="feedback", postgresql_where=sa.text("state = 'joined'"))
    op.drop_table("feedback")
    op.drop_index(op.f("ix_answer_blocks_model_version_at"), table_name="answer_blocks")
    op.drop_index(op.f("ix_answer_blocks_at"), table_name="answer_blocks")
    op.drop_table("answer_blocks")
