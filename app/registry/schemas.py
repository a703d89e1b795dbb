"""What the model calls take and answer."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from app.registry.coordinator import Settled
from app.registry.tables import ModelSlots, ModelVersion, ReplicaSlots, SlotHistory
from app.schemas import Id, ModelName, Reason, Strict


class ReloadRequest(Strict):
    """`expected_active` refuses (412) where another version is active. `force` passes over a hold, an inconclusive
    verdict and replicas that are not ready; it needs a reason, which is recorded."""

    model: ModelName | None = None
    reason: Reason | None = None
    expected_active: Id | None = None
    force: bool = False

    @model_validator(mode="after")
    def force_has_a_reason(self) -> "ReloadRequest":
        if self.force and not self.reason:
            raise ValueError("force needs a reason: it is recorded")
        return self


class RollbackRequest(Strict):
    """Back to the version that was active before, or to `version`, which must have been active once."""

    model: ModelName | None = None
    reason: Reason
    hold: bool = True
    version: Id | None = None
    expected_active: Id | None = None


class StageRequest(Strict):
    reason: Reason | None = None
    force: bool = False

    @model_validator(mode="after")
    def force_has_a_reason(self) -> "StageRequest":
        if self.force and not self.reason:
            raise ValueError("force needs a reason: it is recorded")
        return self


class HoldRequest(Strict):
    model: ModelName | None = None
    reason: Reason


class ReceiptView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    host: str
    served: int
    took_ms: float | None


class SwapAnswer(BaseModel):
    """`changed` is false where it was so already. `missing` names live replicas that have given no receipt in time."""

    model: str
    generation: int
    revision: int
    active: int | None
    standby: int | None
    previous: int | None
    hold_reason: str | None
    watch_until: datetime | None
    changed: bool
    replicas: list[ReceiptView]
    missing: list[str]

    @classmethod
    def of(cls, settled: Settled) -> "SwapAnswer":
        slots = {name: getattr(settled.slots, name) for name in cls.model_fields if hasattr(settled.slots, name)}
        receipts = [ReceiptView.model_validate(receipt) for receipt in settled.replicas]
        return cls(**slots, changed=settled.changed, replicas=receipts, missing=settled.missing)


class ReplicaView(BaseModel):
    """A live replica: the generation it answers with, the standby version it holds warm, or why it has none."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    host: str
    pid: int
    served: int
    warm: int | None
    smoke: dict[str, Any] | None
    error: str | None

    @classmethod
    def of(cls, row: ReplicaSlots) -> "ReplicaView":
        return cls(
            id=str(row.replica),
            host=row.host,
            pid=row.pid,
            served=row.served,
            warm=row.warm,
            smoke=row.smoke,
            error=row.error,
        )


class SlotsView(BaseModel):
    """`settled`: every live replica answers with the present generation."""

    model: str
    active: int | None
    standby: int | None
    previous: int | None
    generation: int
    revision: int
    hold_reason: str | None
    watch_until: datetime | None
    settled: bool
    replicas: list[ReplicaView]

    @classmethod
    def of(cls, slots: ModelSlots, replicas: list[ReplicaView]) -> "SlotsView":
        same = {name: getattr(slots, name) for name in cls.model_fields if hasattr(slots, name)}
        return cls(**same, settled=all(r.served >= slots.generation for r in replicas), replicas=replicas)


class VersionView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    model: str
    number: int
    job_id: int
    definition_revision: int
    data_version: str
    format: str
    artifact: str
    size: int
    metrics: dict[str, Any]
    details: dict[str, Any]
    gate: dict[str, Any]
    verdict: str
    incumbent: int | None
    created_at: datetime

    @classmethod
    def of(cls, row: ModelVersion) -> "VersionView":
        return cls.model_validate(row)


class MadeActive(BaseModel):
    """On whose say a version was active."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    action: str
    actor: str
    reason: str | None


class HistoryView(BaseModel):
    """The slots as they stood from `at` on, and who made them so. `made_active`: where one time is asked for."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    at: datetime
    action: str
    actor: str
    reason: str | None
    active: int | None
    standby: int | None
    previous: int | None
    generation: int
    revision: int
    hold_reason: str | None
    evidence: dict[str, Any] | None
    made_active: MadeActive | None = None

    @classmethod
    def at_time(cls, row: SlotHistory, made_active: SlotHistory) -> "HistoryView":
        said = MadeActive.model_validate(made_active) if row.active is not None else None
        return cls.model_validate(row).model_copy(update={"made_active": said})


class DifferenceView(BaseModel):
    """What two versions of a model differ in; equal figures are left out."""

    model: str
    older: int
    newer: int
    differences: dict[str, dict[str, Any]]
