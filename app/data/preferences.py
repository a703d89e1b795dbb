"""The rows of preference learning as a data version of their own (role `preference`).

They judge nothing, and must teach nothing of what judges: a prompt that the model's data holds out is retired here. So
their split needs no memory; it is by hash, in the same shares, so that rows known by their prompts stand on the same
side in both.
"""

from pathlib import Path

import pyarrow.compute as pc
from sqlalchemy.ext.asyncio import AsyncSession

from app.data import service, snapshots, sources
from app.data.chats import PROMPT
from app.data.snapshots import Snapshot
from app.data.sources import Reading
from app.data.tables import PREFERENCE, DataVersion
from app.definitions.schemas import Definition
from app.gate.criteria import Gate
from app.registry import artifacts


def definition_of(definition: Definition) -> Definition:
    """As if the preferences were the model's data: its split, and nothing that judges."""
    assert definition.preference is not None
    split = definition.split.model_copy(update={"by": "hash"})
    changes = {"data": definition.preference.data, "split": split, "gate": Gate(), "label": None, "signoff": None}
    return definition.model_copy(update=changes)


async def take(
    session: AsyncSession, model: str, definition: Definition, *, store: Path, data: Snapshot, job_id: int
) -> DataVersion:
    """Reads the source of the definition's preferences and publishes what it gave, in the caller's transaction.

    `data` is what the job trains on and is judged by. Raises Invalid, as the source and `snapshots.take` do.
    """
    asked = definition_of(definition)
    since = await service.last_trained(session, model, PREFERENCE)
    reading = Reading(session, model, since.high_water if since else None, artifacts.shared_of(store))
    table = await sources.find(asked.data.source).read(asked.data, reading)
    taken = await snapshots.take(
        model, table, asked, store=store, previous=None, job_id=job_id, role=PREFERENCE, held_out=held_out(data)
    )
    await service.insert_version(session, taken)
    return taken


def held_out(data: Snapshot) -> frozenset[str]:
    """The prompts that judge."""
    return frozenset(data.rows[PROMPT].filter(pc.equal(data.split, "holdout")).to_pylist())
