"""Rows that tests begin with, made as the service makes them."""

import secrets
import uuid
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.roles import Principal, Role
from app.db import clock, seconds
from app.definitions.schemas import Definition
from app.definitions.service import apply
from app.definitions.tables import ModelType
from app.registry.tables import ModelSlots, ModelVersion, ReplicaSlots
from app.settings import Settings
from app.training import service, state
from app.training.schemas import TriggerRequest
from app.training.state import Claim
from app.training.tables import TrainingJob

ALICE = Principal("a11ce", "alice", frozenset({Role.ADMIN}))
TRAINER = Principal("7a17e5", "trainer", frozenset({Role.TRAINER}))
LEASE = 30.0


def definition(**changes: Any) -> Definition:
    """A classifier on samples, with nothing asked before a training."""
    body: dict[str, Any] = {
        "type": "classifier",
        "data": {"source": "samples", "label": "y", "key": "id"},
        "prerequisites": {"min_new_samples": 0},
        "watch": {"minutes": 0},
    }
    return Definition.model_validate(body | changes)


async def define(session: AsyncSession, *names: str, **changes: Any) -> None:
    if await session.get(ModelType, "classifier") is None:
        schema = {
            "type": "object",
            "properties": {"epochs": {"type": "integer"}},
            "additionalProperties": False,
        }
        values = {"name": "classifier", "summary": "", "queue": "cpu", "params_schema": schema, "stages": []}
        await session.execute(insert(ModelType).values(values))
    for name in names:
        await apply(session, name, definition(**changes), actor="test")


async def trigger(session: AsyncSession, settings: Settings, model: str, **asked: Any) -> TrainingJob:
    request = TriggerRequest(model=model, **asked)
    return (await service.trigger(session, settings, request, ALICE)).job


async def claim(
    session: AsyncSession, queue: str = "cpu", lease: float = LEASE, owner: uuid.UUID | None = None
) -> Claim:
    job = await state.claim(session, owner or uuid.uuid4(), [queue], lease)
    assert job is not None
    assert job.owner is not None
    return Claim(job.id, job.model, job.owner, job.fence, job.attempt)


async def expire_lease(session: AsyncSession, job_id: int, *, only_running: bool = False) -> None:
    """As if the lease had run out a second ago."""
    of_job = TrainingJob.id == job_id
    if only_running:
        of_job &= TrainingJob.state == state.JobState.RUNNING
    await session.execute(update(TrainingJob).where(of_job).values(lease_until=clock() - seconds(1)))


def candidate(
    *, verdict: str = "pass", incumbent: int | None = None, artifact: str | None = None, format: str = "onnx"
) -> dict[str, Any]:
    """What a finished attempt publishes; no two are alike."""
    return {
        "data_version": "d" * 64,
        "format": format,
        "artifact": artifact or secrets.token_hex(32),
        "size": 1,
        "metrics": {},
        "details": {},
        "gate": {"verdict": verdict, "reason": "of the test", "criteria": []},
        "verdict": verdict,
        "incumbent": incumbent,
    }


async def version(session: AsyncSession, settings: Settings, model: str, **kind: Any) -> int:
    """Trains and publishes one version, by the way that workers go."""
    job = await trigger(session, settings, model)
    held = await claim(session)
    assert held.job_id == job.id
    number = await state.complete(session, held, candidate(**kind))
    assert number is not None
    return number


async def slots(session: AsyncSession, model: str) -> ModelSlots:
    return await session.get_one(ModelSlots, model, populate_existing=True)


async def replica(
    session: AsyncSession,
    model: str,
    *,
    warm: int | None,
    served: int = 0,
    alive: bool = True,
    host: str = "host",
) -> uuid.UUID:
    """A replica that says it holds `warm`."""
    id = uuid.uuid4()
    lease = clock() + seconds(60 if alive else -60)
    values = {"replica": id, "model": model, "host": host, "pid": 1, "lease_until": lease, "served": served}
    await session.execute(insert(ReplicaSlots).values(values | {"warm": warm}))
    return id


async def numbers(session: AsyncSession, model: str) -> list[int]:
    from sqlalchemy import select

    query = select(ModelVersion.number).where(ModelVersion.model == model).order_by(ModelVersion.number)
    return list((await session.scalars(query)).all())
