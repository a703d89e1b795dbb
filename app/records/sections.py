"""The sections of a change record, each a function of the job: what the rows say of one retraining, in their order.

A section that has nothing to tell answers None.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.tables import DataVersion
from app.definitions.service import load
from app.definitions.tables import ModelDefinition
from app.incidents.tables import Incident
from app.registry.swap import Action, live_replicas
from app.registry.tables import ModelSlots, ModelVersion, SlotHistory
from app.signoff.standing import standing_of, words_on
from app.training.tables import TRAINS, TrainingJob
from app.watch.tables import Watch

Json = Any
Section = Callable[[AsyncSession, TrainingJob], Awaitable[Json | None]]

# Of what may grow for ever so many rows are told, the first ones: they made the version what it is.
MOST_ROWS = 100


async def trigger_of(_: AsyncSession, job: TrainingJob) -> Json:
    """Who or what asked for it, why, and what came of the job."""
    named = (
        "trigger",
        "actor",
        "reason",
        "because",
        "note",
        "created_at",
        "started_at",
        "finished_at",
        "attempt",
        "error",
    )
    return {"status": job.state} | {name: getattr(job, name) for name in named}


async def data_of(session: AsyncSession, job: TrainingJob) -> Json:
    """The rows that it was trained on."""
    version = await session.get(DataVersion, (job.model, job.data_digest)) if job.data_digest else None
    if version is None:
        return {"asked": job.data_version}
    named = ("digest", "rows", "counts", "dropped", "duplicates", "labels", "high_water", "created_at")
    source = {name: value for name, value in version.source.items() if value is not None}
    return {"asked": job.data_version} | {name: getattr(version, name) for name in named} | {"source": source}


async def definition_of(session: AsyncSession, job: TrainingJob) -> Json:
    """The revision, who applied it, and what differs from that of the training before; secrets stay masked."""
    row = await session.get_one(ModelDefinition, (job.model, job.definition_revision))
    told = {"revision": row.revision, "actor": row.actor, "applied_at": row.created_at}
    before = await _revision_before(session, job)
    if before is None or before == row.revision:
        return told | {"compared_with": before, "differences": {}}
    older, newer = [await _flat_definition(session, job.model, revision) for revision in (before, row.revision)]
    differing = sorted(name for name in older.keys() | newer.keys() if older.get(name) != newer.get(name))
    differences = {name: {"older": older.get(name), "newer": newer.get(name)} for name in differing}
    return told | {"compared_with": before, "differences": differences}


async def configuration_of(session: AsyncSession, job: TrainingJob) -> Json:
    named = (
        "model_type",
        "params",
        "strategy",
        "base",
        "stages",
        "labelling",
        "queue",
        "memory_scale",
        "checkpoint_of",
    )
    told = {name: getattr(job, name) for name in named if getattr(job, name) is not None}
    version = await _version(session, job)
    because = version.details.get("full_because") if version else None
    return told | ({"full_because": because} if because else {})


async def evaluation_of(session: AsyncSession, job: TrainingJob) -> Json | None:
    """The gate's report on the version, and the figures of the candidate."""
    version = await _version(session, job)
    if version is None:
        return None
    named = ("artifact", "format", "size", "metrics")
    return {"verdict": version.verdict, "gate": version.gate} | {name: getattr(version, name) for name in named}


async def approvals_of(session: AsyncSession, job: TrainingJob) -> Json:
    """Who made it active, and what people let pass that would have been refused: checks before the training, and
    changes of the slots."""
    checks = {"actor": job.actor, "reason": job.reason, "checks": job.overridden}
    changes = await _changes(session, job)
    forced = [_change(row) for row in changes if (row.evidence or {}).get("forced")]
    reloads = [row for row in changes if row.action == Action.RELOADED and row.active == job.version]
    return {
        "reloaded_by": [{"at": row.at, "actor": row.actor, "reason": row.reason} for row in reloads],
        "forced_checks": checks if job.overridden else None,
        "forced_changes": forced,
    }


async def signoffs_of(session: AsyncSession, job: TrainingJob) -> Json | None:
    """What reviewers said of the version's answers, and whether that is enough for a reload."""
    version = await _version(session, job)
    words = await words_on(session, job.model, version.number) if version else []
    if version is None:
        return None
    standing = await standing_of(session, version)
    if not words and not standing.required:
        return None
    named = ("at", "reviewer", "verdict", "notes", "evaluation")
    said = [{name: getattr(w, name) for name in named} | {"preferred": preferred(w.preferences)} for w in words]
    asked = {"required": standing.required, "role": standing.role, "missing": standing.missing}
    return {"state": standing.state} | asked | {"signoffs": said}


def preferred(preferences: Mapping[str, str]) -> dict[str, int]:
    """How often which was preferred."""
    chosen = list(preferences.values())
    return {who: chosen.count(who) for who in ("candidate", "incumbent", "tie")} if chosen else {}


async def swap_of(session: AsyncSession, job: TrainingJob) -> Json | None:
    """Every change of the slots that this version took part in, and which replicas answer with it now."""
    rows = await _changes(session, job)
    if not rows:
        return None
    slots = await session.get_one(ModelSlots, job.model, populate_existing=True)
    live = await live_replicas(session, job.model) if slots.active == job.version else []
    receipts = [{"host": r.host, "replica": str(r.replica), "served": r.served, "at": r.served_at} for r in live]
    return {"changes": [_change(row) for row in rows], "receipts": receipts}


async def watch_of(session: AsyncSession, job: TrainingJob) -> Json | None:
    """How the version held up each time that it became active, and all figures of the watch that decided: the last one
    that was breached, else the last. None where it never became active, or was not watched."""
    of_version = (Watch.model == job.model) & (Watch.version == job.version)
    watches = (await session.scalars(select(Watch).where(of_version).order_by(Watch.id).limit(MOST_ROWS))).all()
    if not watches:
        return None
    breached = [watch for watch in watches if watch.breached_at is not None]
    decisive = (breached or watches)[-1]
    in_short = ("id", "state", "started_at", "ended_at", "reason")
    in_full = (*in_short, "until", "promised", "numbers", "breached_at")
    return {
        "watches": [{name: getattr(watch, name) for name in in_short} for watch in watches],
        "decisive": {name: getattr(decisive, name) for name in in_full},
    }


async def incidents_of(session: AsyncSession, job: TrainingJob) -> Json:
    """Incidents that name the job or its version, and every time that the version was rolled back."""
    href = f"/model/versions/{job.model}/{job.version}"
    about = or_(Incident.job_id == job.id, Incident.links.contains([{"href": href}]))
    found = (await session.scalars(select(Incident).where(about).order_by(Incident.id).limit(MOST_ROWS))).all()
    named = ("id", "severity", "title", "occurrences", "opened_at", "opened_by", "acknowledged_by", "closed_at", "note")
    # After a rollback the version that was left stands in standby.
    undone = [
        _change(row)
        for row in await _changes(session, job)
        if row.action == Action.ROLLED_BACK and row.standby == job.version
    ]
    return {"incidents": [{name: getattr(i, name) for name in named} for i in found], "rollbacks": undone}


async def state_of(session: AsyncSession, job: TrainingJob) -> Json:
    """Where the version stands now."""
    slots = await session.get_one(ModelSlots, job.model, populate_existing=True)
    version = await _version(session, job)
    places = {"active": slots.active, "standby": slots.standby, "previous": slots.previous}
    place = next((name for name, number in places.items() if version and number == version.number), None)
    removed = version.artifact_removed_at if version else None
    return places | {
        "place": place,
        "generation": slots.generation,
        "hold_reason": slots.hold_reason,
        "artifact_removed_at": removed,
    }


SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("trigger", "Trigger", trigger_of),
    ("data", "Data version", data_of),
    ("definition", "Definition", definition_of),
    ("configuration", "Configuration", configuration_of),
    ("evaluation", "Evaluation", evaluation_of),
    ("approvals", "Approvals", approvals_of),
    ("signoffs", "Sign-offs", signoffs_of),
    ("swap", "Swap", swap_of),
    ("watch", "Watch", watch_of),
    ("incidents", "Incidents and rollbacks", incidents_of),
    ("state", "State now", state_of),
)


async def _version(session: AsyncSession, job: TrainingJob) -> ModelVersion | None:
    return await session.get(ModelVersion, (job.model, job.version)) if job.version else None


async def _changes(session: AsyncSession, job: TrainingJob) -> list[SlotHistory]:
    """The first changes of the slots that name the version."""
    if job.version is None:
        return []
    of_version = or_(SlotHistory.active == job.version, SlotHistory.standby == job.version)
    query = select(SlotHistory).where(SlotHistory.model == job.model, of_version).order_by(SlotHistory.id)
    return list((await session.scalars(query.limit(MOST_ROWS))).all())


def _change(row: SlotHistory) -> dict[str, Any]:
    named = ("at", "action", "actor", "reason", "active", "standby", "generation", "evidence")
    return {name: getattr(row, name) for name in named}


async def _revision_before(session: AsyncSession, job: TrainingJob) -> int | None:
    """That of the training before this one, whichever way it ended."""
    earlier = (TrainingJob.model == job.model) & (TrainingJob.id < job.id) & TRAINS
    query = select(TrainingJob.definition_revision).where(earlier).order_by(TrainingJob.id.desc()).limit(1)
    revision: int | None = await session.scalar(query)
    return revision


async def _flat_definition(session: AsyncSession, model: str, revision: int) -> dict[str, Any]:
    definition = (await load(session, model, revision)).definition
    return dict(_flat(definition.model_dump(mode="json")))


def _flat(value: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """`{"gate": {"mode": …}}` as `gate.mode`."""
    found: list[tuple[str, Any]] = []
    for name, inner in value.items():
        found += _flat(inner, f"{path}{name}.") if isinstance(inner, dict) and inner else [(f"{path}{name}", inner)]
    return found
