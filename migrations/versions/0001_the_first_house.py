"""the first house"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_job_id_id"), "events", ["job_id", "id"], unique=False)
    op.create_index(op.f("ix_events_kind_id"), "events", ["kind", "id"], unique=False)
    op.create_index(op.f("ix_events_model_id"), "events", ["model", "id"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column(
            "opened_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("severity IN ('P1', 'P2', 'P3', 'P4')", name=op.f("ck_incidents_severity_is_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index(
        "open_incidents",
        "incidents",
        ["severity"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "model_types",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("params_schema", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column(
            "stages",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="[[name, share], …] in order",
        ),
        sa.Column(
            "published_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_model_types")),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("concurrency", sa.BigInteger(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "data_quality",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="the check that reports"),
        sa.Column(
            "details",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('healthy', 'warning', 'critical')", name=op.f("ck_data_quality_status_is_known")
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_data_quality_model_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_quality")),
    )
    op.create_index(op.f("ix_data_quality_at"), "data_quality", ["at"], unique=False)
    op.create_table(
        "data_versions",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="sha256 of the Parquet file"),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column(
            "counts",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="rows by split: train, validation, holdout, retired",
        ),
        sa.Column(
            "dropped",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="rows left out, by what they lack: label, key, time",
        ),
        sa.Column(
            "duplicates",
            sa.BigInteger(),
            nullable=False,
            comment="rows whose key (without one: features) another row has too",
        ),
        sa.Column(
            "labels",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="[{label, rows}], the most frequent first",
        ),
        sa.Column(
            "columns",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="[{name, type}]",
        ),
        sa.Column(
            "split",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="what keeps every row on its side; see app/data/splits.py",
        ),
        sa.Column(
            "high_water",
            sa.Text(),
            nullable=True,
            comment="the newest time; without times the number of rows",
        ),
        sa.Column(
            "source",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="the source's options, secrets masked",
        ),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_data_versions_model_models")),
        sa.PrimaryKeyConstraint("model", "digest", name=op.f("pk_data_versions")),
    )
    op.create_index(op.f("ix_data_versions_model_created_at"), "data_versions", ["model", "created_at"], unique=False)
    op.create_table(
        "model_definitions",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("definition", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_model_definitions_model_models")),
        sa.PrimaryKeyConstraint("model", "revision", name=op.f("pk_model_definitions")),
    )
    op.create_table(
        "replica_slots",
        sa.Column("replica", sa.UUID(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.Column(
            "served_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it began to answer with that generation",
        ),
        sa.Column(
            "warm",
            sa.BigInteger(),
            nullable=True,
            comment="the standby version that is loaded, verified and smoke-tested",
        ),
        sa.Column(
            "smoke",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="of the warm version: {inputs, passed, p99_seconds}",
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_replica_slots_model_models")),
        sa.PrimaryKeyConstraint("replica", "model", name=op.f("pk_replica_slots")),
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("row", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when this content came",
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_samples_model_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
        sa.UniqueConstraint("model", "key", name=op.f("uq_samples_model_key")),
    )
    op.create_index(op.f("ix_samples_model_id"), "samples", ["model", "id"], unique=False)
    op.create_table(
        "schedule_fires",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "fired_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_schedule_fires_model_models")),
        sa.PrimaryKeyConstraint("model", "due_at", name=op.f("pk_schedule_fires")),
    )
    op.create_table(
        "slot_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("active", sa.BigInteger(), nullable=True),
        sa.Column("standby", sa.BigInteger(), nullable=True),
        sa.Column("previous", sa.BigInteger(), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_slot_history_model_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slot_history")),
    )
    op.create_index(op.f("ix_slot_history_model_at"), "slot_history", ["model", "at"], unique=False)
    op.create_table(
        "training_jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_type", sa.Text(), nullable=False),
        sa.Column("definition_revision", sa.BigInteger(), nullable=False),
        sa.Column("data_version", sa.Text(), nullable=False, comment="'latest' as asked for, else a digest"),
        sa.Column(
            "params",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="the definition's training parameters with the trigger's over them",
        ),
        sa.Column(
            "equality",
            sa.Text(),
            nullable=False,
            comment="digest of what makes two jobs equal, for coalescing",
        ),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False, comment="0 high, 1 normal"),
        sa.Column("trigger", sa.Text(), nullable=False, comment="manual, schedule, …"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("forced", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "min_new_samples",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="0 where forced",
        ),
        sa.Column(
            "checkpoint_of",
            sa.BigInteger(),
            nullable=True,
            comment="the job whose checkpoints this one continues",
        ),
        sa.Column("state", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("attempt", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.UUID(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ring_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data_digest", sa.Text(), nullable=True, comment="the data version it really took"),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("progress", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_note", sa.Text(), nullable=True),
        sa.Column("advanced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("memory_scale", sa.Double(), server_default=sa.text("1"), nullable=False),
        sa.Column("metrics", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("comparison", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("gate", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("plan", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (lease_until IS NOT NULL)",
            name=op.f("ck_training_jobs_running_has_a_lease"),
        ),
        sa.CheckConstraint(
            "(state = 'running') = (owner IS NOT NULL)", name=op.f("ck_training_jobs_running_has_an_owner")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_training_jobs_state_is_known"),
        ),
        sa.ForeignKeyConstraint(
            ["model", "definition_revision"],
            ["model_definitions.model", "model_definitions.revision"],
            name=op.f("fk_training_jobs_model_definition_revision_model_definitions"),
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_training_jobs_model_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_jobs")),
    )
    op.create_index(op.f("ix_training_jobs_model_id"), "training_jobs", ["model", "id"], unique=False)
    op.create_index(
        "one_running_job_a_model",
        "training_jobs",
        ["model"],
        unique=True,
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "one_waiting_job_a_model",
        "training_jobs",
        ["model"],
        unique=True,
        postgresql_where=sa.text("state = 'queued' AND attempt = 0"),
    )
    op.create_index(
        "queued_in_order",
        "training_jobs",
        ["queue", "priority", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["training_jobs.id"], name=op.f("fk_idempotency_keys_job_id_training_jobs")
        ),
        sa.PrimaryKeyConstraint("principal", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "job_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name=op.f("fk_job_logs_job_id_training_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_logs")),
    )
    op.create_index(op.f("ix_job_logs_job_id_id"), "job_logs", ["job_id", "id"], unique=False)
    op.create_table(
        "job_metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name=op.f("fk_job_metrics_job_id_training_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_metrics")),
    )
    op.create_index(op.f("ix_job_metrics_job_id_id"), "job_metrics", ["job_id", "id"], unique=False)
    op.create_table(
        "model_versions",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("definition_revision", sa.BigInteger(), nullable=False),
        sa.Column("data_version", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False, comment="sha256 of the manifest"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes"),
        sa.Column("metrics", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("details", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("gate", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("incumbent", sa.BigInteger(), nullable=True, comment="the version that the gate compared with"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name=op.f("fk_model_versions_job_id_training_jobs")),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_model_versions_model_models")),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_model_versions")),
    )
    op.create_index(op.f("ix_model_versions_job_id"), "model_versions", ["job_id"], unique=True)
    op.create_table(
        "model_slots",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("active", sa.BigInteger(), nullable=True),
        sa.Column("standby", sa.BigInteger(), nullable=True),
        sa.Column("previous", sa.BigInteger(), nullable=True, comment="where a rollback goes"),
        sa.Column(
            "generation",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="counts changes of active",
        ),
        sa.Column(
            "revision",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="counts every change; the ETag",
        ),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column(
            "watch_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="standby is the rollback target until then",
        ),
        sa.CheckConstraint(
            "active IS DISTINCT FROM standby OR active IS NULL", name=op.f("ck_model_slots_slots_differ")
        ),
        sa.ForeignKeyConstraint(
            ["model", "active"],
            ["model_versions.model", "model_versions.number"],
            name=op.f("fk_model_slots_model_active_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["model", "previous"],
            ["model_versions.model", "model_versions.number"],
            name=op.f("fk_model_slots_model_previous_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["model", "standby"],
            ["model_versions.model", "model_versions.number"],
            name=op.f("fk_model_slots_model_standby_model_versions"),
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_model_slots_model_models")),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_model_slots")),
    )


def downgrade() -> None:
    op.drop_table("model_slots")
    op.drop_index(op.f("ix_model_versions_job_id"), table_name="model_versions")
    op.drop_table("model_versions")
    op.drop_index(op.f("ix_job_metrics_job_id_id"), table_name="job_metrics")
    op.drop_table("job_metrics")
    op.drop_index(op.f("ix_job_logs_job_id_id"), table_name="job_logs")
    op.drop_table("job_logs")
    op.drop_table("idempotency_keys")
    op.drop_index("queued_in_order", table_name="training_jobs", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index(
        "one_waiting_job_a_model",
        table_name="training_jobs",
        postgresql_where=sa.text("state = 'queued' AND attempt = 0"),
    )
    op.drop_index("one_running_job_a_model", table_name="training_jobs", postgresql_where=sa.text("state = 'running'"))
    op.drop_index(op.f("ix_training_jobs_model_id"), table_name="training_jobs")
    op.drop_table("training_jobs")
    op.drop_index(op.f("ix_slot_history_model_at"), table_name="slot_history")
    op.drop_table("slot_history")
    op.drop_table("schedule_fires")
    op.drop_index(op.f("ix_samples_model_id"), table_name="samples")
    op.drop_table("samples")
    op.drop_table("replica_slots")
    op.drop_table("model_definitions")
    op.drop_index(op.f("ix_data_versions_model_created_at"), table_name="data_versions")
    op.drop_table("data_versions")
    op.drop_index(op.f("ix_data_quality_at"), table_name="data_quality")
    op.drop_table("data_quality")
    op.drop_table("workers")
    op.drop_table("models")
    op.drop_table("model_types")
    op.drop_index("open_incidents", table_name="incidents", postgresql_where=sa.text("closed_at IS NULL"))
    op.drop_table("incidents")
    op.drop_index(op.f("ix_events_model_id"), table_name="events")
    op.drop_index(op.f("ix_events_kind_id"), table_name="events")
    op.drop_index(op.f("ix_events_job_id_id"), table_name="events")
    op.drop_table("events")
    op.drop_table("api_keys")
