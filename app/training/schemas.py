"""What the training calls take and answer. A job is told in the runbook's words."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.auth.roles import Principal, Role
from app.definitions.schemas import Strategy
from app.schemas import FreeJson, Id, ModelName, Reason, Strict
from app.training.stages import PUBLISH, are_of_data
from app.training.state import JobState, eta_seconds
from app.training.tables import TrainingJob

PRIORITIES = {"high": 0, "normal": 1}
Priority = Literal["high", "normal"]
StageName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Token = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,17}-[0-9a-f]{12}$")]
DataVersion = Annotated[str, StringConstraints(pattern=r"^(latest|[0-9a-f]{6,64})$")]


class TriggerRequest(Strict):
    """Asks for one training. `force` skips the prerequisites, for operators, with a reason that is recorded."""

    model_type: ModelName | None = None
    data_version: DataVersion = "latest"
    model: ModelName | None = None
    reason: Reason | None = None
    note: Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")] | None = None
    params: FreeJson = Field(default_factory=dict, description="laid over the definition's `training`")
    strategy: Strategy | None = Field(None, description="full, incremental or pull; unset: the definition's")
    priority: Priority = "normal"
    dry_run: bool = False
    stages: list[StageName] | None = Field(
        None,
        min_length=1,
        max_length=20,
        description="snapshot, label: only take (and label) a data version; "
        "else stages of the type, which are run (again) on what an earlier job has left",
    )
    from_job: Id | None = Field(None, description="the job whose checkpoints the stages go on from; unset: the newest")
    confirm: Token | None = Field(None, description="the token of the dry run that has planned this training")
    label: FreeJson = Field(
        default_factory=dict, description="laid over the definition's `label`; with stages: [label]"
    )
    force: bool = False

    @property
    def trains(self) -> bool:
        return not self.dry_run and (self.stages is None or PUBLISH in self.stages)

    @model_validator(mode="after")
    def label_is_a_stage(self) -> "TriggerRequest":
        if self.label and "label" not in (self.stages or []):
            raise ValueError('label says how to label; it goes with stages: ["label"]')
        if self.dry_run and are_of_data(self.stages):
            raise ValueError("a dry run plans a training, and these stages leave it out; send one of them")
        if self.from_job is not None and not self.stages:
            raise ValueError("from_job goes with stages; a failed or cancelled job as a whole is resumed")
        if self.confirm is not None and (self.dry_run or are_of_data(self.stages)):
            raise ValueError("confirm is for a training; what trains nothing needs none")
        return self

    @model_validator(mode="after")
    def force_has_a_reason(self) -> "TriggerRequest":
        if self.force and not self.reason:
            raise ValueError("force needs a reason: it is recorded")
        return self


class CancelRequest(Strict):
    reason: Reason | None = None


class JobError(BaseModel):
    code: str
    message: str
    remedy: str


class JobView(BaseModel):
    """`status` is about execution only; `verdict` is the gate's. `progress` is 0 to 1 over the whole job.

    `metrics` are the candidate's own, `comparison` its delta against production, `gate` the full report.
    """

    job_id: int
    model: str
    model_type: str
    status: str
    is_terminal: bool
    cancelling: bool
    attempt: int
    max_attempts: int
    stage: str | None
    progress: float
    progress_note: str | None
    eta_seconds: float | None
    metrics: dict[str, Any] | None
    comparison: dict[str, Any] | None
    gate: dict[str, Any] | None
    evaluation: str | None = Field(description="of a language model: the digest of its answers and their scores")
    verdict: str | None
    version: int | None
    error: JobError | None
    plan: dict[str, Any] | None
    definition_revision: int
    data_version: str = Field(description="the digest that was taken; before that, what was asked for")
    preference_version: str | None = Field(description="the data version of preferences")
    params: dict[str, Any]
    strategy: Strategy = Field(description="as asked for")
    base: int | None = Field(description="the version that it starts from; null: it trains in full")
    dry_run: bool
    stages: list[str] | None
    queue: str
    priority: Priority
    trigger: str
    actor: str
    reason: str | None
    because: dict[str, Any] | None = Field(description="by monitor: what it found, on which numbers")
    note: str | None
    forced: bool
    overridden: list[Any] | None = Field(description="the checks that force passed over, with their figures")
    confirmation: str | None = Field(
        description="of a dry run of a costly type, for trainers: the token that confirms its plan"
    )
    confirms: int | None = Field(description="the dry run whose plan it carries out")
    resumes: int | None = Field(description="the job whose checkpoints it goes on from")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: TrainingJob, reader: Principal) -> "JobView":
        same = {name: getattr(job, name) for name in cls.model_fields if hasattr(job, name)}
        state = JobState(job.state)
        told = {
            "job_id": job.id,
            "status": state.value,
            "is_terminal": state.is_terminal,
            "cancelling": state == JobState.RUNNING and job.cancel_requested_at is not None,
            "eta_seconds": eta_seconds(job),
            "verdict": (job.gate or {}).get("verdict"),
            "data_version": job.data_digest or job.data_version,
            "priority": "high" if job.priority == PRIORITIES["high"] else "normal",
            "preference_version": job.preference_digest,
            "resumes": job.checkpoint_of,
            "confirmation": job.confirmation if reader.may(Role.TRAINER) else None,
        }
        return cls.model_validate(same | told)


class TriggerAnswer(JobView):
    """`accepted`: a new job. `replayed`: the job of this idempotency key. `coalesced`: an equal job is open."""

    outcome: Literal["accepted", "replayed", "coalesced"]
    warnings: list[str] = Field(default_factory=list)


class CheckView(BaseModel):
    """`value` was found, `required` is asked for; a null value: it could not be told in time, or nothing is asked.

    `binds` every trigger, automatic ones only, or nobody: then it is shown and blocks nothing.
    """

    model_config = ConfigDict(from_attributes=True)

    code: str = Field(description="what a refusal is called")
    passed: bool
    value: Any
    required: Any
    message: str
    remedy: str
    forceable: bool
    binds: Literal["every", "automatic", "nobody"]
    details: dict[str, Any] | None


class PrerequisitesView(BaseModel):
    """What a trigger would be answered now: by hand, and by itself."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    admitted: bool
    admitted_automatically: bool
    checks: list[CheckView]


class LogLine(BaseModel):
    id: int
    attempt: int
    at: datetime
    line: str


class MetricPoint(BaseModel):
    id: int
    attempt: int
    stage: str | None
    name: str
    step: int
    value: float
    at: datetime


class WorkerView(BaseModel):
    id: uuid.UUID
    host: str
    pid: int
    queues: list[str]
    concurrency: int
    gpus: list[Any] | None = Field(description="[{name, memory_total_mib, memory_free_mib}]; null: none")
    started_at: datetime


class ModelTypeView(BaseModel):
    name: str
    summary: str
    queue: str
    params_schema: dict[str, Any]
    stages: list[Any]
    incremental: bool = Field(description="whether a training can start from the active version")
    pulls: bool = Field(description="whether a version can be fetched that somebody else has trained")
    costly: bool = Field(description="off until REFIT_TRAINING_ENABLED allows it, and confirmed by a dry run's token")
