"""Whether the definition has changed since the active version was trained: a new policy, other rules of the gate."""

from typing import Literal

from pydantic import Field
from sqlalchemy import func, select

from app.definitions.service import trains_otherwise
from app.definitions.tables import Model
from app.monitoring.monitors import Finding, MonitorOptions, Numbers, State, Subject
from app.registry.tables import ModelVersion


class Options(MonitorOptions):
    kind: Literal["definition"] = "definition"
    every_minutes: float = Field(5, ge=1 / 60, le=7 * 24 * 60)


async def read(subject: Subject, options: Options) -> Numbers:  # noqa: ARG001 - the contract of every kind
    session, model = subject.session, subject.model
    newest = select(func.max(ModelVersion.definition_revision)).where(ModelVersion.model == model)
    trained = await session.scalar(newest)
    revision = (await session.scalars(select(Model.revision).where(Model.name == model))).one()
    otherwise = trained is not None and await trains_otherwise(session, model, trained, revision)
    return {"revision": revision, "trained": trained, "otherwise": otherwise}


def judge(options: Options, numbers: Numbers) -> Finding:  # noqa: ARG001 - the contract of every kind
    revision, trained = numbers["revision"], numbers["trained"]
    if numbers["otherwise"]:
        return Finding(State.BREACHED, f"The definition is at revision {revision}; the last training had {trained}.")
    return Finding(State.OK, f"Nothing that a training depends on has changed up to revision {revision}.")
