"""The life of a swap. Every change of `model_slots` is in this file: one row a model, compared and swapped.

    stage ─▶ (replicas warm the standby) ─▶ reload: active ⇄ standby ─▶ (receipts) settled
                                            rollback: back to the version that was active before

A change is one UPDATE guarded by the revision that was read under FOR UPDATE, with history, event and NOTIFY in the
same transaction. Replicas renew their lease under a shared lock of the same row, so nobody joins or renews between the
readiness check and the commit. There is no state in between: the row changed or it did not (PROTOCOL).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, notify, seconds
from app.errors import NotFound, Refused, Stale
from app.events.record import REFIT, record
from app.registry import conditions
from app.registry.tables import ModelSlots, ModelVersion, ReplicaSlots, SlotHistory
from app.signoff import standing

CHANNEL = "refit_slots"


class Action(StrEnum):
    STAGED = "staged"
    RELOADED = "reloaded"
    RESTORED = "restored"  # the rollback target was put back into standby, to be warmed
    ROLLED_BACK = "rolled_back"
    HELD = "held"
    UNHELD = "unheld"


# Which slots an action may change. Anything else that differs is a fault of the code and raises before it is written.
TRANSITIONS: Mapping[Action, frozenset[str]] = {
    Action.STAGED: frozenset({"standby"}),
    Action.RELOADED: frozenset({"active", "standby", "previous", "watch_until"}),
    Action.RESTORED: frozenset({"standby"}),
    Action.ROLLED_BACK: frozenset({"active", "standby", "previous", "watch_until", "hold_reason"}),
    Action.HELD: frozenset({"hold_reason"}),
    Action.UNHELD: frozenset({"hold_reason"}),
}


class ReplicasNotReady(Refused):
    """Live replicas do not hold the target warm. `missing=[{replica, host, warm, error}]`."""

    code = "replicas_not_ready"


@dataclass(frozen=True)
class Change:
    """Who changes slots, why, and what they expected to find (the revision of `If-Match`, `expected_active`)."""

    model: str
    actor: str
    reason: str | None = None
    expected_active: int | None = None
    expected_revision: int | None = None
    force: bool = False


@dataclass(frozen=True)
class Swapped:
    """The slots after a change. `changed` is false where they were so already; `left_out` were not waited for."""

    slots: ModelSlots
    changed: bool
    left_out: tuple[str, ...] = ()


async def stage(session: AsyncSession, change: Change, number: int) -> Swapped:
    """Puts a version into standby. Staging what is staged changes nothing.

    Raises Refused: `already_active`, `verdict_fail`, `verdict_inconclusive` (unless forced), `stale_gate`,
    `artifact_removed`, `watch_running` while the standby is the rollback target of a watch.
    """
    slots = await _lock(session, change)
    version = await get_version(session, change.model, number)
    if slots.standby == number:
        return Swapped(slots, changed=False)
    if slots.active == number:
        raise Refused(f"Version {number} of {change.model} is active already.", code="already_active")
    conditions.check_gate(slots, version, change.force)
    conditions.check_artifact(version)
    await conditions.check_watch(session, slots)
    return await _write(session, slots, Action.STAGED, change, standby=number)


async def reload(session: AsyncSession, change: Change, *, watch_minutes: float) -> Swapped:
    """Swaps active and standby, bound to the incumbent that the gate report names.

    Raises Stale where the caller expected other slots; Refused: `standby_empty`, `standby_is_previous`, `held`,
    `was_rolled_back` by a watch, `verdict_…`, `stale_gate`, `signoff_missing`, `signoff_rejected`; ReplicasNotReady
    naming every live replica that is not warm (the caller may wait and ask again). `force` passes over a hold, a
    rollback, an inconclusive verdict and replicas that are not ready, never over the rest.
    """
    slots = await _lock(session, change)
    if slots.standby is None:
        raise Refused(
            f"Nothing stands by for {change.model}.",
            code="standby_empty",
            remedy=f"Train one that passes the gate: refit trigger {slots.model} --wait; or: refit versions stage N.",
        )
    if slots.standby == slots.previous:
        raise Refused(
            f"Standby holds version {slots.standby}, the one that was active before; only a rollback goes there.",
            code="standby_is_previous",
            remedy=f"To go back: refit rollback {change.model} --reason …",
        )
    conditions.check_hold(slots, change.force)
    await _check_was_rolled_back(session, slots, change)
    version = await get_version(session, change.model, slots.standby)
    conditions.check_gate(slots, version, change.force)
    await standing.check(session, version)
    left_out = await _not_warm(session, slots.model, slots.standby)
    if left_out and not change.force:
        raise _not_ready(slots, slots.standby, left_out)
    swapped = await _write(
        session,
        slots,
        Action.RELOADED,
        change,
        active=slots.standby,
        standby=slots.active,
        previous=slots.active,
        watch_until=clock() + seconds(watch_minutes * 60) if watch_minutes and slots.active else None,
        evidence={"left_out": [r.host for r in left_out]} if left_out else None,
    )
    return replace(swapped, left_out=tuple(str(r.replica) for r in left_out))


async def restore(session: AsyncSession, change: Change, version: int | None) -> tuple[int, Swapped]:
    """The first half of a rollback: (target, slots) with the target in standby, so that replicas warm it.

    Changes nothing where the target stands there already, or is active already because the rollback was done before.
    Raises Refused `nothing_to_roll_back_to`, or `never_active` for a version that never was.
    """
    slots = await _lock(session, change)
    target = version or slots.previous
    if target is None:
        target = await _rolled_back_to(session, slots)
    if target is None:
        raise _nothing_before(slots)
    await get_version(session, change.model, target)
    if not await was_active(session, change.model, target):
        raise Refused(f"Version {target} of {change.model} was never active.", code="never_active")
    if target in (slots.active, slots.standby):
        return target, Swapped(slots, changed=False)
    return target, await _write(session, slots, Action.RESTORED, change, standby=target)


async def rollback(session: AsyncSession, change: Change, target: int, *, hold: bool) -> Swapped:
    """The second half: swaps to `target`, which stands by, and sets a hold. Rolling back twice changes nothing.

    Needs no gate and no worker. Raises Refused `standby_changed` where somebody staged another version meanwhile;
    ReplicasNotReady where live replicas are not warm: with `force` those are left out, as long as one is warm.
    """
    slots = await _lock(session, change)
    if slots.active == target:
        return Swapped(slots, changed=False)
    if slots.standby != target:
        raise Refused(f"Standby no longer holds version {target}; roll back again.", code="standby_changed")
    live = await live_replicas(session, change.model)
    left_out = [r for r in live if r.warm != target]
    if left_out and (not change.force or len(left_out) == len(live)):
        raise _not_ready(slots, target, left_out)
    swapped = await _write(
        session,
        slots,
        Action.ROLLED_BACK,
        change,
        active=target,
        standby=slots.active,
        previous=None,
        watch_until=None,
        hold_reason=f"rolled back from version {slots.active}: {change.reason}" if hold else slots.hold_reason,
        evidence={"left_out": [r.host for r in left_out]} if left_out else None,
    )
    return replace(swapped, left_out=tuple(str(r.replica) for r in left_out))


async def hold(session: AsyncSession, change: Change) -> Swapped:
    """Pins the slots: nothing automatic changes them until `unhold`."""
    slots = await _lock(session, change)
    if slots.hold_reason == change.reason:
        return Swapped(slots, changed=False)
    return await _write(session, slots, Action.HELD, change, hold_reason=change.reason)


async def unhold(session: AsyncSession, change: Change) -> Swapped:
    slots = await _lock(session, change)
    if slots.hold_reason is None:
        return Swapped(slots, changed=False)
    return await _write(session, slots, Action.UNHELD, change, hold_reason=None)


async def get_version(session: AsyncSession, model: str, number: int) -> ModelVersion:
    version = await session.get(ModelVersion, (model, number))
    if version is None:
        raise NotFound(
            f"Model {model} has no version {number}.",
            code="version_not_found",
            remedy=f"`refit versions list {model}` names them.",
        )
    return version


async def live_replicas(session: AsyncSession, model: str) -> Sequence[ReplicaSlots]:
    """The replicas whose lease has not run out, by the database's clock."""
    query = select(ReplicaSlots).where(ReplicaSlots.model == model, ReplicaSlots.lease_until > clock())
    live = query.order_by(ReplicaSlots.host, ReplicaSlots.replica).execution_options(populate_existing=True)
    return (await session.scalars(live)).all()


async def was_active(session: AsyncSession, model: str, number: int) -> bool:
    query = select(SlotHistory.id).where(SlotHistory.model == model, SlotHistory.active == number).limit(1)
    return await session.scalar(query) is not None


async def was_rolled_back(session: AsyncSession, model: str, number: int) -> SlotHistory | None:
    """The last time that Refit itself went back from that version; None where it never did. What people undo is
    theirs to do again."""
    of = SlotHistory
    # What was left stands by afterwards.
    undone = (of.model == model, of.action == Action.ROLLED_BACK, of.actor == REFIT, of.standby == number)
    return await session.scalar(select(of).where(*undone).order_by(of.id.desc()).limit(1))


async def _lock(session: AsyncSession, change: Change) -> ModelSlots:
    """The row under FOR UPDATE. No replica can join or renew, and nobody else can swap, until this transaction ends."""
    query = select(ModelSlots).where(ModelSlots.model == change.model).with_for_update()
    slots = await session.scalar(query.execution_options(populate_existing=True))
    if slots is None:
        raise NotFound(f"No model is called {change.model!r}.", code="model_not_found")
    if change.expected_revision not in (None, slots.revision):
        raise Stale(
            f"The slots of {change.model} are at revision {slots.revision}, not {change.expected_revision}.",
            remedy=_read_again(change.model),
            revision=slots.revision,
        )
    if change.expected_active not in (None, slots.active):
        raise Stale(
            f"{conditions.named(slots.active).capitalize()} of {change.model} is active, not {change.expected_active}.",
            remedy=_read_again(change.model),
            active=slots.active,
        )
    return slots


def _read_again(model: str) -> str:
    return f"Look again, with `refit slots {model}` or GET /model/slots, and decide anew."


async def _check_was_rolled_back(session: AsyncSession, slots: ModelSlots, change: Change) -> None:
    assert slots.standby is not None
    undone = await was_rolled_back(session, slots.model, slots.standby)
    if undone is not None and not change.force:
        raise Refused(
            f"Version {slots.standby} of {slots.model} was rolled back at {undone.at:%Y-%m-%d %H:%M:%S} UTC: "
            f"{undone.reason}",
            code="was_rolled_back",
            remedy=f"Train another, or take it all the same: refit reload {slots.model} --force --reason …",
        )


async def _not_warm(session: AsyncSession, model: str, target: int) -> list[ReplicaSlots]:
    return [replica for replica in await live_replicas(session, model) if replica.warm != target]


def _not_ready(slots: ModelSlots, target: int, replicas: Sequence[ReplicaSlots]) -> ReplicasNotReady:
    named = [{"replica": str(r.replica), "host": r.host, "warm": r.warm, "error": r.error} for r in replicas]
    why = "; ".join(f"{r.host}: {r.error or 'still loading'}" for r in replicas)
    return ReplicasNotReady(
        f"{len(replicas)} live replicas of {slots.model} do not hold version {target} warm ({why}).",
        remedy="Ask again in a moment; `force` with a reason leaves them out.",
        missing=named,
    )


async def _rolled_back_to(session: AsyncSession, slots: ModelSlots) -> int | None:
    """The active version where the last change of active was a rollback: who asks again gets the same answer."""
    query = select(SlotHistory.action).where(
        SlotHistory.model == slots.model, SlotHistory.generation == slots.generation
    )
    first = await session.scalar(query.order_by(SlotHistory.id).limit(1))
    return slots.active if first == Action.ROLLED_BACK else None


async def _write(
    session: AsyncSession,
    slots: ModelSlots,
    action: Action,
    change: Change,
    *,
    evidence: dict[str, Any] | None = None,
    **values: Any,
) -> Swapped:
    """The one statement that changes slots, with its history, event and NOTIFY."""
    if not values.keys() <= TRANSITIONS[action]:
        raise ValueError(f"{action} may not change {', '.join(values.keys() - TRANSITIONS[action])}")
    before = _told(slots)
    changes_active = "active" in values
    written = await session.scalar(
        update(ModelSlots)
        .where(ModelSlots.model == slots.model, ModelSlots.revision == slots.revision)
        .values(
            **values,
            revision=ModelSlots.revision + 1,
            generation=ModelSlots.generation + (1 if changes_active else 0),
        )
        .returning(ModelSlots)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if written is None:
        raise Stale(f"The slots of {slots.model} changed meanwhile.", remedy="Read them again and decide anew.")
    kept = ("model", "active", "standby", "previous", "generation", "revision", "hold_reason")
    history = {name: getattr(written, name) for name in kept}
    if change.force and action != Action.ROLLED_BACK:  # nobody lets anything pass who goes back
        evidence = (evidence or {}) | {"forced": True}
    told = {"action": action, "actor": change.actor, "reason": change.reason, "evidence": evidence}
    await session.execute(insert(SlotHistory).values(**history, **told))
    await record(
        session,
        kind=f"slots.{action}",
        actor=change.actor,
        model=slots.model,
        version=written.active if changes_active else written.standby,
        before=before,
        after=_told(written),
        reason=change.reason,
        evidence=evidence,
    )
    await notify(session, CHANNEL, slots.model)
    return Swapped(written, changed=True)


def _told(slots: ModelSlots) -> str:
    held = ", held" if slots.hold_reason else ""
    return f"active {slots.active or '–'}, standby {slots.standby or '–'}, generation {slots.generation}{held}"


def _nothing_before(slots: ModelSlots) -> Refused:
    code = "nothing_to_roll_back_to"
    if slots.active is None:
        remedy = (
            f"Train one that passes the gate, `refit trigger {slots.model} --wait`, then `refit reload {slots.model}`."
        )
        return Refused(f"No version of {slots.model} has ever been active.", code=code, remedy=remedy)
    return Refused(
        f"No version of {slots.model} was active before version {slots.active}.",
        code=code,
        remedy=f"`refit history {slots.model}` tells which were active; one of those can be named with --version N.",
    )
