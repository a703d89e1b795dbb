"""Jobs and what they leave behind. Who may change a job's state, and how, is in `state.py`."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt, Serial

# What a job is triggered by when a caller asks for it; everything else is automatic.
MANUAL = "manual"
STATES = ("queued", "running", "completed", "failed", "cancelled")
STRATEGIES = ("full", "incremental", "pull")


class TrainingJob(Base):
    __tablename__ = "training_jobs"
    __table_args__ = (
        # At most one running and one waiting job a model (PROTOCOL). A job that was interrupted goes back to the queue
        # whether or not another one waits there, so only jobs that have never run count as waiting (ADR 2).
        Index("one_running_job_a_model", "model", unique=True, postgresql_where=text("state = 'running'")),
        Index(
            "one_waiting_job_a_model",
            "model",
            unique=True,
            postgresql_where=text("state = 'queued' AND attempt = 0"),
        ),
        Index("queued_in_order", "queue", "priority", "id", postgresql_where=text("state = 'queued'")),
        Index(None, "model", "id"),
        CheckConstraint(f"state IN {STATES}", name="state_is_known"),
        CheckConstraint(f"strategy IN {STRATEGIES}", name="strategy_is_known"),
        CheckConstraint("(state = 'running') = (owner IS NOT NULL)", name="running_has_an_owner"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="running_has_a_lease"),
        ForeignKeyConstraint(
            ["model", "definition_revision"], ["model_definitions.model", "model_definitions.revision"]
        ),
    )

    id: Mapped[Serial]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    model_type: Mapped[str]

    # What was asked for
    definition_revision: Mapped[int]
    data_version: Mapped[str] = mapped_column(comment="'latest' as asked for, else a digest")
    params: Mapped[dict[str, Any]] = mapped_column(
        comment="the definition's training parameters with the trigger's over them"
    )
    strategy: Mapped[str] = mapped_column(
        server_default=text("'full'"), comment="as asked for: full, incremental, pull"
    )
    equality: Mapped[str] = mapped_column(comment="digest of what makes two jobs equal, for coalescing")
    dry_run: Mapped[bool] = mapped_column(server_default=text("false"))
    stages: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), comment="null: all; snapshot, label: only a data version is made; else stages of the type"
    )
    labelling: Mapped[dict[str, Any] | None] = mapped_column(comment="LabelOptions, where the rows are labelled first")
    queue: Mapped[str]
    priority: Mapped[int] = mapped_column(comment="0 high, 1 normal")
    trigger: Mapped[str] = mapped_column(comment="manual, schedule, …")
    actor: Mapped[str]
    reason: Mapped[str | None]
    because: Mapped[dict[str, Any] | None] = mapped_column(comment="the numbers of the monitors that triggered it")
    note: Mapped[str | None]
    forced: Mapped[bool] = mapped_column(server_default=text("false"))
    overridden: Mapped[list[Any] | None] = mapped_column(comment="the checks that force passed over, with figures")
    confirms: Mapped[int | None] = mapped_column(comment="the dry run whose token the trigger brought")
    min_new_samples: Mapped[int] = mapped_column(server_default=text("0"), comment="0 where forced")
    checkpoint_of: Mapped[int | None] = mapped_column(comment="the job whose checkpoints this one continues")

    # The life of the job: written by state.py alone
    state: Mapped[str] = mapped_column(server_default=text("'queued'"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int]
    owner: Mapped[uuid.UUID | None] = mapped_column(UUID)
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime | None]
    ring_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    # What it tells while it runs, and in the end
    data_digest: Mapped[str | None] = mapped_column(comment="the data version it really took")
    preference_digest: Mapped[str | None] = mapped_column(comment="the data version of preferences it really took")
    source_marks: Mapped[dict[str, Any] | None] = mapped_column(
        comment="what the sources that it read looked like then: data, preferences"
    )
    base: Mapped[int | None] = mapped_column(comment="the version that an incremental one starts from")
    stage: Mapped[str | None]
    progress: Mapped[float] = mapped_column(server_default=text("0"))
    progress_note: Mapped[str | None]
    advanced_at: Mapped[datetime | None]
    memory_scale: Mapped[float] = mapped_column(server_default=text("1"))
    metrics: Mapped[dict[str, Any] | None]
    comparison: Mapped[dict[str, Any] | None]
    gate: Mapped[dict[str, Any] | None]
    evaluation: Mapped[str | None] = mapped_column(
        comment="of a language model: digest of its answers and their scores"
    )
    plan: Mapped[dict[str, Any] | None]
    confirmation: Mapped[str | None] = mapped_column(comment="of a dry run: the token that confirms its plan")
    error: Mapped[dict[str, Any] | None]
    version: Mapped[int | None]


# A version is to come of it: neither a plan alone nor a data version nor single stages alone.
TRAINS = ~TrainingJob.dry_run & (TrainingJob.stages.is_(None) | TrainingJob.stages.contains(["publish"]))


class IdempotencyKey(Base):
    """The caller who retries gets the answer of the first time."""

    __tablename__ = "idempotency_keys"

    principal: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    job_id: Mapped[int] = mapped_column(ForeignKey("training_jobs.id"))
    created_at: Mapped[CreatedAt]


class JobLog(Base):
    """One line that an attempt said."""

    __tablename__ = "job_logs"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[Serial]
    job_id: Mapped[int] = mapped_column(ForeignKey("training_jobs.id"))
    attempt: Mapped[int]
    at: Mapped[CreatedAt]
    line: Mapped[str]


class JobMetric(Base):
    """One point of a curve: a trial's score, a loss by epoch."""

    __tablename__ = "job_metrics"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[Serial]
    job_id: Mapped[int] = mapped_column(ForeignKey("training_jobs.id"))
    attempt: Mapped[int]
    stage: Mapped[str | None]
    name: Mapped[str]
    step: Mapped[int]
    value: Mapped[float]
    at: Mapped[CreatedAt]


class Worker(Base):
    """A worker process that is alive for as long as its lease; a new id at every start (PROTOCOL)."""

    __tablename__ = "workers"

    id: Mapped[uuid.UUID] = mapped_column(UUID, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    concurrency: Mapped[int]
    gpus: Mapped[list[Any] | None] = mapped_column(comment="[{name, memory_total_mib, memory_free_mib}]; null: none")
    started_at: Mapped[CreatedAt]
    lease_until: Mapped[datetime]


class ScheduleFire(Base):
    """A schedule fires once for each of its times, whoever ticks first."""

    __tablename__ = "schedule_fires"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    fired_at: Mapped[CreatedAt]
    outcome: Mapped[str] = mapped_column(comment="fired, coalesced, refused or missed")
    reason: Mapped[str | None] = mapped_column(comment="why no job came of it")
    job_id: Mapped[int | None]
