"""One process that answers predictions: it holds active and standby of every model, flips, and says so in Postgres.

Boot, reload, rollback and recovery are one function: `converge`. The flip is one assignment, so a request answers with
the slots it found when it began, and a replica's generation never goes back.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Table, bindparam, case, delete, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import clock, notify, seconds
from app.definitions.service import load as load_definition
from app.definitions.tables import Model
from app.news import News
from app.registry.coordinator import CHANNEL as REPLICAS_CHANNEL
from app.registry.swap import CHANNEL as SLOTS_CHANNEL
from app.registry.swap import get_version
from app.registry.tables import ModelSlots, ReplicaSlots
from app.serving import loaded
from app.serving.loaded import Loaded
from app.settings import Settings

log = logging.getLogger(__name__)

# A version that could not be loaded is tried again after this long.
RETRY_SECONDS = 5.0
# A replica that starts takes no request before it can answer, and no longer than this.
JOIN_SECONDS = 30.0
# The replica stops believing in its lease this share of it before the database does.
MARGIN = 0.2
# Every model's slots under FOR SHARE, in the order of their names, so that two readers never wait crosswise.
SLOTS = (
    select(ModelSlots.model, Model.type, ModelSlots.active, ModelSlots.standby, ModelSlots.generation)
    .join(Model, Model.name == ModelSlots.model)
    .order_by(ModelSlots.model)
    .with_for_update(read=True, of=ModelSlots)
)


@dataclass(frozen=True)
class Slots:
    """What a replica answers with for one model. Never changed: a flip puts another one in its place."""

    model: str
    type: str
    generation: int
    active: Loaded | None
    standby: Loaded | None
    # Who counts what is answered with these slots, by arm; found once, not at each request.
    ledgers: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Wanted:
    """A row of `model_slots`, as the replica read it."""

    model: str
    type: str
    active: int | None
    standby: int | None
    generation: int


@dataclass
class Shelf:
    """The versions of one model that are in memory, being loaded, or could not be."""

    loaded: dict[int, Loaded] = field(default_factory=dict)
    loading: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    failed: dict[int, tuple[str, float]] = field(default_factory=dict)  # why, and when (monotonic)

    def lacks(self, number: int | None) -> bool:
        if number is None or number in self.loaded or number in self.loading:
            return False
        return number not in self.failed or time.monotonic() - self.failed[number][1] > RETRY_SECONDS


def converge(wanted: Wanted, held: Slots | None, shelf: Shelf) -> Slots | None:
    """The slots that this replica should answer with now, or None where the active version is not loaded yet.

    An older generation than the one held is never returned: a read that came late changes nothing.
    """
    if held is not None and wanted.generation < held.generation:
        return held
    active = shelf.loaded.get(wanted.active) if wanted.active is not None else None
    if wanted.active is not None and active is None:
        return None
    standby = shelf.loaded.get(wanted.standby) if wanted.standby is not None else None
    return Slots(wanted.model, wanted.type, wanted.generation, active, standby)


class Replica:
    """`run` beats for ever; `slots` is what requests read."""

    def __init__(self, settings: Settings, sessions: async_sessionmaker[AsyncSession], news: News) -> None:
        self.id = uuid.uuid4()
        self.slots: dict[str, Slots] = {}
        self._settings = settings
        self._sessions = sessions
        self._news = news
        self._shelves: dict[str, Shelf] = {}
        self._lease_ends = float("-inf")
        self._unloaded: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._told: dict[str, tuple[Any, ...]] = {}
        self._receipts = _receipts(settings.replica_lease_seconds)

    @property
    def has_lease(self) -> bool:
        """False once Postgres may think that this replica is gone; it goes on serving, and says so."""
        return time.monotonic() < self._lease_ends

    @property
    def unloaded(self) -> dict[str, str]:
        """The models whose active version this replica cannot answer with yet, and why."""
        return dict(self._unloaded)

    async def run(self) -> None:
        every = self._settings.replica_lease_seconds / 5
        while True:
            self._changed.clear()
            heard = self._news.count
            try:
                await self.beat()
            except (SQLAlchemyError, OSError) as error:
                log.warning("a replica's heartbeat failed (%s); serving what is loaded", error)
            if not any(shelf.loading for shelf in self._shelves.values()):
                self._settled.set()
            await self._wait(every, heard)

    async def joined(self) -> None:
        """Returns once everything that can be loaded is loaded; where Postgres is away or slow, all the same."""
        with suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                await self._settled.wait()

    async def beat(self) -> None:
        """Reads the slots under a shared lock, flips what is ready, renews the lease: one transaction (PROTOCOL)."""
        began = time.monotonic()
        async with self._sessions() as session, session.begin():
            every = [Wanted(*row) for row in await session.execute(SLOTS)]
            flipped = [w for w in every if self._flip(w)]
            await self._report(session, flipped)
        if len(flipped) == len(every):
            self._lease_ends = began + self._settings.replica_lease_seconds * (1 - MARGIN)
        for wanted in every:
            self._fetch(wanted)
        for wanted in flipped:
            self._drop(wanted)
        self._unloaded = {w.model: self._why(w) for w in every if w not in flipped}

    async def leave(self) -> None:
        """Takes this replica out of everybody's count, so that no reload waits for it."""
        async with self._sessions() as session, session.begin():
            gone = delete(ReplicaSlots).where(ReplicaSlots.replica == self.id).returning(ReplicaSlots.model)
            for model in await session.scalars(gone):
                await notify(session, REPLICAS_CHANNEL, model)

    def close(self) -> None:
        """Ends what runs behind the versions; nothing is answered any more."""
        versions = [version for shelf in self._shelves.values() for version in shelf.loaded.values()]
        self.slots.clear()
        self._shelves.clear()
        for version in versions:
            if version.generator is not None:
                version.generator.close()

    def _flip(self, wanted: Wanted) -> bool:
        """True where this replica now answers with the generation that was just read."""
        converged = converge(wanted, self.slots.get(wanted.model), self._shelf(wanted.model))
        if converged is None:
            return False
        self.slots[wanted.model] = converged
        return converged.generation == wanted.generation

    async def _report(self, session: AsyncSession, flipped: list[Wanted]) -> None:
        """The receipts. A model whose generation this replica does not serve gets no renewal: its lease runs out."""
        rows = [self._row(wanted) for wanted in flipped]
        if not rows:
            return
        await (await session.connection()).execute(self._receipts, rows)
        told = {row["model"]: (row["served"], row["warm"], row["error"]) for row in rows}
        for model in [model for model in told if told[model] != self._told.get(model)]:
            await notify(session, REPLICAS_CHANNEL, model)
        self._told = told

    def _row(self, wanted: Wanted) -> dict[str, Any]:
        standby = self._shelf(wanted.model).loaded.get(wanted.standby) if wanted.standby else None
        return {
            "replica": self.id,
            "model": wanted.model,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "served": wanted.generation,
            "warm": standby.number if standby and standby.is_sound else None,
            "smoke": standby.smoke if standby else None,
            "error": self._error(wanted.model, wanted.standby, standby),
        }

    def _error(self, model: str, number: int | None, standby: Loaded | None) -> str | None:
        if standby is not None:
            return standby.smoke["reason"] if not standby.is_sound else None
        failed = self._shelf(model).failed.get(number) if number is not None else None
        return failed[0] if failed else None

    def _why(self, wanted: Wanted) -> str:
        return self._error(wanted.model, wanted.active, None) or f"version {wanted.active} is being loaded"

    def _shelf(self, model: str) -> Shelf:
        return self._shelves.setdefault(model, Shelf())

    def _fetch(self, wanted: Wanted) -> None:
        """Starts loading what is wanted and missing, off the event loop."""
        shelf = self._shelf(wanted.model)
        for number in (wanted.active, wanted.standby):
            if number is not None and shelf.lacks(number):
                shelf.loading[number] = asyncio.create_task(self._load(shelf, wanted.model, number))

    def _drop(self, wanted: Wanted) -> None:
        """What no slot needs goes once the receipt has said so: until then a rollback may count on what was warm."""
        shelf = self._shelf(wanted.model)
        for number in shelf.loaded.keys() - {wanted.active, wanted.standby}:
            del shelf.loaded[number]

    async def _load(self, shelf: Shelf, model: str, number: int) -> None:
        try:
            async with self._sessions() as session:
                version = await get_version(session, model, number)
                definition = (await load_definition(session, model, version.definition_revision)).definition
            limit, trained_at = definition.latency_limit, version.created_at.timestamp()
            shelf.loaded[number] = await asyncio.to_thread(
                loaded.load, self._settings.store, number, version.artifact, limit, trained_at
            )
            shelf.failed.pop(number, None)
        except Exception as error:
            log.exception("version %s of %s could not be loaded", number, model)
            shelf.failed[number] = (f"{type(error).__name__}: {error}", time.monotonic())
        finally:
            shelf.loading.pop(number, None)
            self._changed.set()

    async def _wait(self, longest: float, heard: int) -> None:
        """Until the slots changed, a version finished loading, or the next heartbeat is due."""
        waits = [
            asyncio.create_task(self._news.wait(SLOTS_CHANNEL, longest, since=heard)),
            asyncio.create_task(self._changed.wait()),
        ]
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()


def _receipts(lease_seconds: float) -> Insert:
    """Without its rows: a statement that carries them is compiled at every beat, which is most of what a beat costs."""
    table = cast("Table", ReplicaSlots.__table__)
    given = ("replica", "model", "host", "pid", "served", "warm", "smoke", "error")
    values: dict[str, Any] = {name: bindparam(name) for name in given}
    upsert = insert(table).values(values | {"lease_until": clock() + seconds(lease_seconds), "served_at": clock()})
    new, old = upsert.excluded, table.c
    return upsert.on_conflict_do_update(
        index_elements=[old.replica, old.model],
        set_={
            "lease_until": new.lease_until,
            "served": new.served,
            "served_at": case((old.served == new.served, old.served_at), else_=clock()),
            "warm": new.warm,
            "smoke": new.smoke,
            "error": new.error,
        },
    )
