"""What forbids a change of the slots, each with the way out. Raises Refused."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.errors import Refused
from app.registry.tables import ModelSlots, ModelVersion


def check_hold(slots: ModelSlots, force: bool) -> None:
    if slots.hold_reason is not None and not force:
        raise Refused(
            f"{slots.model} is held: {slots.hold_reason}",
            code="held",
            remedy=f"Lift it first: refit unhold {slots.model} --reason …",
        )


def check_gate(slots: ModelSlots, version: ModelVersion, force: bool) -> None:
    if version.verdict == "fail" or (version.verdict == "inconclusive" and not force):
        raise Refused(
            f"The gate's verdict on version {version.number} is {version.verdict}: {version.gate['reason']}",
            code=f"verdict_{version.verdict}",
            remedy="Train again; an inconclusive verdict may be forced by an operator with a reason.",
        )
    if version.incumbent != slots.active:
        raise Refused(
            f"Version {version.number} was judged against {named(version.incumbent)}, but {named(slots.active)} is "
            "active now.",
            code="stale_gate",
            remedy=f"Train again, so that the gate compares with what is active: refit trigger {slots.model}.",
        )


def check_artifact(version: ModelVersion) -> None:
    if version.artifact_removed_at is not None:
        raise Refused(
            f"The files of version {version.number} were removed at {version.artifact_removed_at:%Y-%m-%d %H:%M} UTC.",
            code="artifact_removed",
            remedy="Train again: REFIT_RETAIN_ARTIFACT_DAYS says how long files of versions that never served stay.",
        )


async def check_watch(session: AsyncSession, slots: ModelSlots) -> None:
    protected = slots.standby is not None and slots.standby == slots.previous and slots.watch_until is not None
    if protected and await session.scalar(select(clock() < slots.watch_until)):
        raise Refused(
            f"Version {slots.standby} in standby is the rollback target until {slots.watch_until:%Y-%m-%d %H:%M:%S}.",
            code="watch_running",
            remedy="Wait for its end: what passed against the version that is active then is staged by itself.",
        )


def named(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
