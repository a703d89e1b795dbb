"""What the data room knows of a model: its data versions, new rows, posted samples, reported quality."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import sources
from app.data.posting import checked
from app.data.schemas import Quality, SamplesAccepted
from app.data.sources import Reading
from app.data.tables import STATUSES, TRAINING, DataQuality, DataVersion, Role
from app.db import clock, seconds
from app.definitions.schemas import Definition
from app.definitions.service import Applied
from app.definitions.service import load as load_definition
from app.errors import Invalid, NotFound
from app.events.record import REFIT, record
from app.training.tables import TRAINS, TrainingJob

LATEST = "latest"
SHORTEST_PREFIX = 6
COUNT_SECONDS = 2.0
DAY_SECONDS = 86_400

# Sent as two arrays: one statement and one round trip for ten thousand rows.
POST = text("""
    INSERT INTO samples (model, key, "row")
    SELECT :model, sent.key, sent.value::jsonb
    FROM unnest(CAST(:keys AS text[]), CAST(:rows AS text[])) WITH ORDINALITY AS sent (key, value, place)
    ORDER BY sent.place
    ON CONFLICT (model, key) DO UPDATE SET "row" = excluded."row", received_at = clock_timestamp()
    RETURNING xmax <> 0
""")  # xmax: the row version that is answered was an update


async def latest_version(session: AsyncSession, model: str, role: Role = TRAINING) -> DataVersion | None:
    """The newest data version: the next one keeps every row on its side of this one."""
    query = select(DataVersion).where(DataVersion.model == model, DataVersion.role == role)
    return await session.scalar(query.order_by(DataVersion.created_at.desc(), DataVersion.digest).limit(1))


async def last_trained(session: AsyncSession, model: str, role: Role = TRAINING) -> DataVersion | None:
    """What the last completed training was trained on: what is newer than its high-water mark is new."""
    taken = TrainingJob.data_digest if role == TRAINING else TrainingJob.preference_digest
    query = select(DataVersion).join(
        TrainingJob, (TrainingJob.model == DataVersion.model) & (taken == DataVersion.digest)
    )
    trained = (TrainingJob.model == model) & (TrainingJob.state == "completed") & TRAINS
    return await session.scalar(query.where(trained).order_by(TrainingJob.id.desc()).limit(1))


async def insert_version(session: AsyncSession, version: DataVersion) -> None:
    """Publishes a snapshot that was taken; the same content again changes nothing."""
    columns = [c.key for c in DataVersion.__table__.columns if c.key != "created_at"]
    values = {name: getattr(version, name) for name in columns} | {"role": version.role or TRAINING}
    kept = insert(DataVersion).values(values).on_conflict_do_nothing().returning(DataVersion.digest)
    if await session.scalar(kept) is not None:
        of: dict[str, Any] = {"model": version.model, "job_id": version.job_id}
        figures = {"rows": version.rows, "counts": version.counts, "role": values["role"]}
        await record(session, kind="data.taken", actor=REFIT, **of, after=version.digest, evidence=figures)


async def resolve(session: AsyncSession, model: str, name: str, role: Role | None = TRAINING) -> DataVersion | None:
    """The data version of that role (None: of any) that `name` means: a digest, or its first characters. None: a new
    snapshot is to be taken.

    Raises NotFound `data_version_unknown`, Invalid `data_version_ambiguous`.
    """
    if name == LATEST:
        return None
    query = select(DataVersion).where(DataVersion.model == model, DataVersion.digest.startswith(name, autoescape=True))
    if role is not None:
        query = query.where(DataVersion.role == role)
    found = (await session.scalars(query.limit(2))).all() if len(name) >= SHORTEST_PREFIX else []
    if len(found) > 1:
        raise Invalid(
            f"Several data versions of {model} begin with {name}.",
            code="data_version_ambiguous",
            remedy="Write more of its digest.",
        )
    if not found:
        raise NotFound(
            f"Model {model} has no data version {name}.",
            code="data_version_unknown",
            remedy=f"`refit data list {model}` or GET /data/versions lists them; `latest` takes a new one.",
        )
    return found[0]


async def get_version(session: AsyncSession, model: str, name: str) -> DataVersion:
    """`resolve` of any role, with `latest` for the newest to train on. Raises NotFound where the model has none."""
    await load_definition(session, model)
    found = await resolve(session, model, name, role=None) or await latest_version(session, model)
    if found is None:
        raise NotFound(
            f"Model {model} has no data version yet.",
            code="data_version_unknown",
            remedy=f"Take one: refit data take {model}.",
        )
    return found


async def count_new(
    session: AsyncSession, model: str, definition: Definition, *, since: DataVersion | None = None
) -> int | None:
    """Labelled rows since the last completed training, or since that data version.

    None: the source could not tell within two seconds.

    Raises what the source raises where it cannot be read at all.
    """
    trained = since or await last_trained(session, model)
    # Marks of another time column would be compared with what they never measured.
    same_time = trained is not None and trained.source.get("time") == definition.data.time
    mark = trained.high_water if trained and same_time else None
    source = sources.find(definition.data.source)
    try:
        async with asyncio.timeout(COUNT_SECONDS), session.begin_nested():
            found = await source.count(definition.data, Reading(session, model, mark))
    except (TimeoutError, DBAPIError):
        return None
    return found if trained is None or same_time else max(0, found - trained.rows)


async def marks_of(definition: Definition) -> dict[str, str]:
    """What the sources of `data` and of `preferences` look like now, as far as they can tell without being read."""
    options = {"data": definition.data} | ({"preferences": definition.preference.data} if definition.preference else {})
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            found = {name: await sources.mark_of(each) for name, each in options.items()}
    except TimeoutError:
        return {}
    return {name: mark for name, mark in found.items() if mark is not None}


async def post_samples(session: AsyncSession, applied: Applied, rows: Sequence[dict[str, Any]]) -> SamplesAccepted:
    """Keeps all rows or none. Raises Invalid naming each bad row and column."""
    data = applied.definition.data
    if data.source != "samples":
        raise Invalid(
            f"Model {applied.model} reads its rows from {data.source}, not from posted samples.",
            code="not_a_samples_source",
            remedy="Define the model with data.source: samples.",
        )
    need_label = applied.definition.label is None
    by_key = dict(await asyncio.to_thread(checked, rows, data, need_label=need_label))
    # One post of a model at a time: ids grow in the order of commits, and two posts of the same keys cannot
    # deadlock.
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"samples:{applied.model}"))))
    sent = {"model": applied.model, "keys": list(by_key), "rows": [row.decode() for row in by_key.values()]}
    replaced = sum((await session.scalars(POST, sent)).all())
    twice = len(rows) - len(by_key)
    return SamplesAccepted(model=applied.model, accepted=len(rows), replaced=replaced + twice)


async def post_quality(session: AsyncSession, report: Quality, *, actor: str) -> int:
    """The id of the report, which is kept and recorded."""
    added = DataQuality(model=report.model, status=report.status, source=report.source, details=report.details)
    session.add(added)
    await session.flush()
    evidence = {"source": report.source, "details": report.details}
    await record(session, kind="data.quality", actor=actor, model=report.model, after=report.status, evidence=evidence)
    return added.id


async def quality_of_last_day(session: AsyncSession, model: str) -> dict[str, str]:
    """{check: what it said last in the last 24 hours}; of a check that speaks of the model and of all, the worse.

    A check that was critical and has since reported healthy no longer counts: the data was mended.
    """
    newest = (
        select(DataQuality.source, DataQuality.status)
        .ext(distinct_on(DataQuality.model, DataQuality.source))
        .where((DataQuality.model == model) | DataQuality.model.is_(None))
        .where(DataQuality.at > clock() - seconds(DAY_SECONDS))
        .order_by(DataQuality.model, DataQuality.source, DataQuality.id.desc())
    )
    said: dict[str, str] = {}
    for source, status in await session.execute(newest):
        said[source] = max(status, said.get(source, status), key=STATUSES.index)
    return said


def worst_of(statuses: Iterable[str]) -> str | None:
    """None where nobody said anything."""
    return max(statuses, key=STATUSES.index, default=None)


async def list_versions(
    session: AsyncSession, model: str | None, after: str | None, limit: int, role: Role | None = TRAINING
) -> tuple[Sequence[DataVersion], str | None]:
    """Newest first, and the cursor of the next page: `<model>:<digest>` of the last one. Role None: of any."""
    place = tuple_(DataVersion.created_at, DataVersion.model, DataVersion.digest)
    query = select(DataVersion).order_by(
        DataVersion.created_at.desc(), DataVersion.model.desc(), DataVersion.digest.desc()
    )
    if model is not None:
        query = query.where(DataVersion.model == model)
    if role is not None:
        query = query.where(DataVersion.role == role)
    if after is not None:
        last = await session.get(DataVersion, tuple(after.split(":", 1)))
        if last is None:
            raise Invalid("`after` is no cursor of this list.", code="invalid_cursor", remedy="Send `next` as it came.")
        query = query.where(place < tuple_(last.created_at, last.model, last.digest))
    found = (await session.scalars(query.limit(limit + 1))).all()
    page = found[:limit]
    return page, f"{page[-1].model}:{page[-1].digest}" if len(found) > limit else None
