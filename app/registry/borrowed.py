"""What versions have put into an Ollama: which of it the slots need, and taking away the rest."""

import asyncio
import logging
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.registry import artifacts
from app.registry.artifacts import Manifest
from app.registry.tables import ModelSlots, ModelVersion
from app.runtimes._tags import read, tag_of, tidy
from app.runtimes.chat import Down
from app.settings import Settings

log = logging.getLogger(__name__)

# A candidate that is judged stands in no slot; a day where staging folders are kept for ever.
SPARE_HOURS = 24.0


class Place(NamedTuple):
    """An Ollama, and the key that opens it, as endpoint.json names it."""

    url: str
    key: str | None


class Needed(NamedTuple):
    """Every Ollama that a version was made in, and the tags that slots need, in whichever: one may be known by several
    addresses. What was changed after `since` stays as well.
    """

    places: set[Place]
    tags: set[str]
    since: datetime


async def needed(session: AsyncSession, settings: Settings) -> Needed | None:
    """Of versions that still have files. None where one in a slot cannot be read: its tag could be any of ours."""
    slots = (await session.scalars(select(ModelSlots))).all()
    kept = {(row.model, number) for row in slots for number in (row.active, row.standby, row.previous)}
    places: set[Place] = set()
    tags: set[str] = set()
    for model, number, digest in (await session.execute(_versions())).all():
        try:
            found = await asyncio.to_thread(_tag, settings.store, digest)
        except (OSError, ValueError) as error:
            if (model, number) in kept:
                log.warning("no Ollama is tidied: version %s of %s cannot be read (%s)", number, model, error)
                return None
            continue
        if found is not None:
            places.add(found[0])
            tags.update({found[1]} if (model, number) in kept else ())
    now = (await session.execute(select(clock()))).scalar_one()
    return Needed(places, tags, now - timedelta(hours=settings.retain_staging_hours or SPARE_HOURS))


async def take_away(found: Needed) -> None:
    """Deletes the others, one Ollama after another; one that is away is asked again the next time."""
    for place in found.places:
        try:
            gone = await asyncio.to_thread(tidy, place.url, found.tags, found.since, place.key)
        except (Down, ValueError) as error:
            log.info("Ollama at %s is not tidied: %s", place.url, error)
        else:
            for tag in gone:
                log.info("deleted %s from Ollama at %s: no slot needs it", tag, place.url)


def _versions() -> Select[str, int, str]:
    return select(ModelVersion.model, ModelVersion.number, ModelVersion.artifact).where(
        ModelVersion.format == "openai", ModelVersion.artifact_removed_at.is_(None)
    )


@lru_cache(maxsize=4096)
def _tag(store: Path, digest: str) -> tuple[Place, str] | None:
    """Where an artifact's tag is, and its name; None for one of another server. Raises OSError or ValueError for files
    that are gone or say something else.
    """
    folder = artifacts.folder_of(store, digest)
    version = read(folder)
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    if version.endpoint.api != "ollama":
        return None
    weights = manifest.files.get("model.gguf")
    return Place(version.endpoint.root, version.endpoint.key), tag_of(version, weights.sha256 if weights else None)
