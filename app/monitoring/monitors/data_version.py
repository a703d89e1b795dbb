"""Whether there is a data version newer than the one that the active version was trained on."""

from typing import Literal

from pydantic import Field
from sqlalchemy import select

from app.data.tables import TRAINING, DataVersion
from app.monitoring.monitors import Finding, MonitorOptions, Numbers, State, Subject
from app.registry.tables import ModelVersion


class Options(MonitorOptions):
    kind: Literal["data_version"] = "data_version"
    every_minutes: float = Field(5, ge=1 / 60, le=7 * 24 * 60)


async def read(subject: Subject, options: Options) -> Numbers:  # noqa: ARG001 - the contract of every kind
    """The newest data version, and whether any version was made of it: one that lost at the gate is tried, not new."""
    newest = await subject.session.scalar(
        select(DataVersion)
        .where(DataVersion.model == subject.model, DataVersion.role == TRAINING)
        .order_by(DataVersion.created_at.desc(), DataVersion.digest)
        .limit(1)
    )
    made = select(ModelVersion.number).where(ModelVersion.model == subject.model)
    tried = newest and await subject.session.scalar(made.where(ModelVersion.data_version == newest.digest).limit(1))
    return {
        "newest": newest.digest if newest else None,
        "rows": newest.rows if newest else None,
        "is_new": bool(newest) and tried is None,
    }


def judge(options: Options, numbers: Numbers) -> Finding:  # noqa: ARG001 - the contract of every kind
    if numbers["newest"] is None:
        return Finding(State.UNKNOWN, "There is no data version yet.")
    named = f"data version {numbers['newest'][:12]} of {numbers['rows']} rows"
    if numbers["is_new"]:
        return Finding(State.BREACHED, f"No version was trained on {named} yet.")
    return Finding(State.OK, f"The newest, {named}, was trained on.")
