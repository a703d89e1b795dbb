"""Release notes of a version, made from the record: what it was made of, how it did, what people said, and what is
known not to be right."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.tables import DataVersion
from app.db import clock
from app.definitions.service import load
from app.errors import NotFound
from app.evaluation import kept
from app.evaluation.schemas import Evaluation
from app.records import sections
from app.records.sections import Json, preferred
from app.registry.swap import get_version
from app.registry.tables import ModelVersion
from app.signoff.standing import Standing, standing_of
from app.training.service import get_job
from app.training.tables import TrainingJob

DATA = ("digest", "rows", "counts", "dropped", "duplicates", "created_at", "source")
TITLES = {
    "data": "Data version",
    "preferences_data": "Data version of preferences",
    "configuration": "Configuration",
    "metrics": "Metrics",
    "deltas": "Against the incumbent",
    "reviewers": "What reviewers said",
    "limitations": "Known limitations",
    "approvals": "Who",
}
# A figure of this name that is not zero is something that readers should know of.
LIMITS = ("cut", "trunc", "dropped", "differ", "mismatch", "skipped", "left_out")
# Where served and merged model parted, both tokens being as likely.
TIES = "ties"
MOST_LIMITS = 100


async def release_notes(session: AsyncSession, store: Path, model: str, number: int) -> dict[str, Any]:
    """One object, a key for each of TITLES; null where there is nothing to tell. Raises NotFound."""
    await load(session, model)
    version = await get_version(session, model, number)
    job = await get_job(session, version.job_id)
    standing = await standing_of(session, version)
    evaluation, unread = await _evaluation(store, version)
    now = (await session.scalars(select(clock()))).one()
    return {
        "model": model,
        "version": number,
        "job_id": job.id,
        "written_at": now,
        "created_at": version.created_at,
        "verdict": version.verdict,
        "reason": version.gate.get("reason"),
        "data": await _data(session, model, version.data_version),
        "preferences_data": await _data(session, model, job.preference_digest),
        "configuration": await sections.configuration_of(session, job),
        "metrics": _metrics(version, evaluation),
        "deltas": _deltas(version),
        "reviewers": _reviewers(standing),
        "limitations": [*unread, *_limitations(version, evaluation)][:MOST_LIMITS],
        "approvals": await _who(session, job, standing),
    }


async def _evaluation(store: Path, version: ModelVersion) -> tuple[Evaluation | None, list[str]]:
    digest = version.details.get("evaluation")
    if digest is None:
        return None, []
    try:
        return await asyncio.to_thread(kept.read, store, digest), []
    except NotFound as error:
        return None, [error.message]


async def _data(session: AsyncSession, model: str, digest: str | None) -> Json | None:
    found = await session.get(DataVersion, (model, digest)) if digest else None
    if found is None:
        return {"digest": digest} if digest else None
    return {name: getattr(found, name) for name in DATA}


def _metrics(version: ModelVersion, evaluation: Evaluation | None) -> Json:
    corpus = {name: pair.get("candidate") for name, pair in evaluation.corpus.items()} if evaluation else {}
    return corpus | version.metrics


def _deltas(version: ModelVersion) -> Json | None:
    named = ("name", "slice", "verdict", "candidate", "incumbent", "delta", "interval", "n", "requirement")
    criteria = [{name: each.get(name) for name in named} for each in version.gate.get("criteria", ())]
    told = [{name: value for name, value in each.items() if value is not None} for each in criteria]
    level = version.gate.get("confidence")
    return {"incumbent": version.incumbent, "confidence_of_intervals": level, "criteria": told} if told else None


def _reviewers(standing: Standing) -> Json | None:
    """Preferences are counted over all reviewers, by prompts."""
    if not standing.words:
        return None
    said = [
        {"reviewer": w.reviewer, "verdict": w.verdict, "notes": w.notes} | preferred(w.preferences)
        for w in standing.words
    ]
    chosen = [preferred(word.preferences) for word in standing.words]
    totals = {who: sum(each.get(who, 0) for each in chosen) for who in ("candidate", "incumbent", "tie")}
    return {"preferences": totals, "reviewers": said}


def _limitations(version: ModelVersion, evaluation: Evaluation | None) -> Iterator[str]:
    """What could not be measured or does not hold, what was cut away, and where two computations differed."""
    if version.verdict != "pass":
        yield f"The gate's verdict is {version.verdict}: {version.gate.get('reason')}"
    for each in version.gate.get("criteria", ()):
        if each.get("verdict") not in ("pass", "not_applicable"):
            of_slice = f" of {each['slice']}" if each.get("slice") else ""
            yield f"{each['name']}{of_slice} is {each['verdict']}: {each.get('reason')}"
    if version.gate.get("leak_reason"):
        yield f"Which rows were seen in training is not known: {version.gate['leak_reason']}"
    yield from evaluation.notes if evaluation else ()
    yield from map(str, version.details.get("limitations", ()))
    for name, value in _figures(version.details):
        yield f"{name.replace('_', ' ')}: {value:g}"


def _figures(told: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{path}{name}, ")
        elif isinstance(value, int | float) and value and any(limit in name for limit in LIMITS):
            yield f"{path}{name}", float(value)
        elif isinstance(value, list) and value and name == TIES:
            yield f"{path}{name}", len(value)


async def _who(session: AsyncSession, job: TrainingJob, standing: Standing) -> Json:
    told = await sections.approvals_of(session, job)
    planned = await session.get(TrainingJob, job.confirms) if job.confirms else None
    return {
        "triggered_by": job.actor,
        "made_by": list(standing.made_by),
        "trigger": job.trigger,
        "reason": job.reason,
        "planned_by": planned.actor if planned else None,
        "signoff": standing.state,
        "approved_by": [word.reviewer for word in standing.approvals],
        "rejected_by": [word.reviewer for word in standing.rejections],
        "missing": standing.missing,
        "reloaded_by": told["reloaded_by"],
        "forced": told["forced_changes"],
    }
