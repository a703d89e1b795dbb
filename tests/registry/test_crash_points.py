"""The real coordinator, killed before and after every statement that it sends: it has done nothing or everything.

A death is a closed socket in the middle of whatever runs; Postgres then does what it does when a process is gone.
`make verify` runs this with more sequences (REFIT_TEST_SEQUENCES).
"""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import NullPool, event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from app.errors import Refused
from app.events.tables import Event
from app.news import News
from app.registry import swap
from app.registry.coordinator import Coordinator
from app.registry.swap import Change
from app.registry.tables import ModelSlots, ReplicaSlots, SlotHistory
from app.serving.replica import Replica
from app.settings import Settings
from tests.artifacts import publish
from tests.factories import define, slots, version

SEQUENCES = int(os.environ.get("REFIT_TEST_SEQUENCES", "8"))
NEVER = 10_000
Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The pool tells at length of every connection that it finds dead; here that is each one."""
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")


class Killed(BaseException):
    """No handler of the code sees a kill -9."""


@dataclass
class Fate:
    """Dies at the `at`-th point, counted from 1. A point is before or after a statement, a BEGIN or a COMMIT."""

    at: int = NEVER
    passed: int = 0
    points: list[str] = field(default_factory=list)

    @property
    def has_struck(self) -> bool:
        return self.passed >= self.at

    def pass_by(self, connection: Any, point: str) -> None:
        self.passed += 1
        self.points.append(point)
        if self.has_struck:
            if connection is not None:
                connection.connection.driver_connection.pgconn.finish()
            raise Killed(point)


@asynccontextmanager
async def mortal(config: Settings, fate: Fate) -> AsyncIterator[Sessions]:
    """Sessions of a process that `fate` may end at any point; nothing of it runs afterwards."""
    engine = create_async_engine(config.database, poolclass=NullPool)
    of_engine = engine.sync_engine
    event.listen(of_engine, "begin", lambda connection: fate.pass_by(connection, "BEGIN"))
    event.listen(of_engine, "commit", lambda connection: fate.pass_by(connection, "before COMMIT"))
    for when in ("before", "after"):
        event.listen(of_engine, f"{when}_cursor_execute", _at_statement(fate, when))
    of_process = type("OfProcess", (Session,), {})
    event.listen(of_process, "after_commit", lambda session: fate.pass_by(None, "after COMMIT, before its answer"))
    yield async_sessionmaker(engine, expire_on_commit=False, sync_session_class=of_process)
    await engine.dispose()


def _at_statement(fate: Fate, when: str) -> Callable[..., None]:
    def strike(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        fate.pass_by(connection, f"{when} {statement[:40]}")

    return strike


@dataclass(frozen=True)
class Call:
    """What an operator asks a coordinator for."""

    sessions: Sessions
    config: Settings
    model: str

    @property
    def change(self) -> Change:
        return Change(self.model, "alice", "of the test")

    async def stage(self, number: int) -> None:
        async with self.sessions() as session, session.begin():
            await swap.stage(session, self.change, number)

    async def hold(self) -> None:
        async with self.sessions() as session, session.begin():
            await swap.hold(session, self.change)

    async def unhold(self) -> None:
        async with self.sessions() as session, session.begin():
            await swap.unhold(session, self.change)

    async def reload(self) -> None:
        await self._coordinator().reload(self.change, watch_minutes=0)

    async def rollback(self, to: int | None = None) -> None:
        await self._coordinator().rollback(self.change, version=to, hold=True)

    def _coordinator(self) -> Coordinator:
        return Coordinator(self.sessions, News(self.config), wait=0)


Operation = Callable[[Call], Awaitable[None]]


async def dies(config: Settings, model: str, operation: Operation, at: int = NEVER) -> bool:
    """Whether point `at` came before the operation had ended. A refusal is an end."""
    fate = Fate(at)
    async with mortal(config, fate) as sessions:
        try:
            await operation(Call(sessions, config, model))
        except Refused:
            pass
        except (Killed, SQLAlchemyError):
            # Rolling back on a connection that is gone may be what is heard of.
            if not fate.has_struck:
                raise
    return fate.has_struck


@dataclass(frozen=True)
class Case:
    """An operation, the slots before it as calls, and what must be true after it: (active, standby, held)."""

    operation: Operation
    before: tuple[Operation, ...]
    after: tuple[int | None, int | None, bool]
    changes: int = 1


RELOADED: tuple[Operation, ...] = (lambda call: call.stage(1), lambda call: call.reload())
PASSED: tuple[Operation, ...] = (*RELOADED, lambda call: call.stage(2))
SWAPPED: tuple[Operation, ...] = (*PASSED, lambda call: call.reload())
CASES = {
    "stage": Case(lambda call: call.stage(2), RELOADED, (1, 2, False)),
    "the first reload": Case(lambda call: call.reload(), RELOADED[:1], (1, None, False)),
    "reload": Case(lambda call: call.reload(), PASSED, (2, 1, False)),
    "rollback": Case(lambda call: call.rollback(), SWAPPED, (1, 2, True)),
    "rollback that restores first": Case(
        lambda call: call.rollback(), (*SWAPPED, lambda call: call.stage(3)), (1, 2, True), changes=2
    ),
    "hold": Case(lambda call: call.hold(), RELOADED, (1, None, True)),
    "unhold": Case(lambda call: call.unhold(), (*RELOADED, lambda call: call.hold()), (1, None, False)),
}


async def begin(sessions: Sessions, config: Settings, *before: Operation) -> str:
    """A model of its own: versions 1, 2 (judged against 1) and 3 (against 2), and the slots that `before` leaves."""
    model = f"m-{uuid.uuid4().hex[:12]}"
    async with sessions() as session, session.begin():
        await define(session, model)
        for incumbent in (None, 1, 2):
            await version(session, config, model, incumbent=incumbent)
    for operation in before:
        await operation(Call(sessions, config, model))
    return model


async def agreeing(sessions: Sessions, model: str) -> ModelSlots:
    """The slots, after they were held against the history and the record: each change once in both, and whole."""
    async with sessions() as session:
        row = await slots(session, model)
        of_model = select(SlotHistory).where(SlotHistory.model == model).order_by(SlotHistory.id)
        history = (await session.scalars(of_model)).all()
        recorded = select(Event.kind).where(Event.model == model, Event.kind.startswith("slots.")).order_by(Event.id)
        events = [kind for kind in (await session.scalars(recorded)).all() if kind != "slots.put_off"]
    assert events == [f"slots.{change.action}" for change in history]
    assert [change.revision for change in history] == list(range(1, row.revision + 1))
    active, generation = None, 0
    for change in history:
        generation += change.active != active
        active = change.active
        assert change.generation == generation
    kept = ("active", "standby", "previous", "generation", "revision", "hold_reason")
    if history:
        assert [getattr(row, name) for name in kept] == [getattr(history[-1], name) for name in kept]
    return row


@pytest.mark.parametrize("name", CASES)
async def test_a_coordinator_killed_at_any_point_has_done_nothing_or_everything_and_a_retry_ends_well(
    name: str, sessions: Sessions, config: Settings
) -> None:
    case, at, dead, found = CASES[name], 0, True, set()
    model = await begin(sessions, config, *case.before)
    before = await agreeing(sessions, model)
    while dead:
        at += 1
        dead = await dies(config, model, case.operation, at)
        done = (await agreeing(sessions, model)).revision - before.revision
        found.add(done)
        if done == 0:
            continue  # nothing has happened to this model: it dies at the next point
        await dies(config, model, case.operation)
        row = await agreeing(sessions, model)
        assert (row.active, row.standby, row.hold_reason is not None) == case.after
        assert row.revision == before.revision + case.changes, "applied twice, or not at all"
        if dead:
            model = await begin(sessions, config, *case.before)
    assert found == set(range(case.changes + 1))
    print(f"{name}: {at - 1} crash points")


ANY: dict[str, Operation] = {
    "stage 1": lambda call: call.stage(1),
    "stage 2": lambda call: call.stage(2),
    "stage 3": lambda call: call.stage(3),
    "reload": lambda call: call.reload(),
    "rollback": lambda call: call.rollback(),
    "hold": lambda call: call.hold(),
    "unhold": lambda call: call.unhold(),
}


@given(st.data())
@examples(
    max_examples=SEQUENCES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_coordinators_that_die_in_any_order_leave_slots_history_and_record_agreeing(
    sessions: Sessions, config: Settings, data: st.DataObject
) -> None:
    """Each call is made by a coordinator of its own, which may die; the next one finds what it left."""
    model = await begin(sessions, config)
    steps = data.draw(st.lists(st.tuples(st.sampled_from(sorted(ANY)), st.integers(1, 60)), min_size=3, max_size=8))
    struck, revision = 0, 0
    for name, at in steps:
        struck += await dies(config, model, ANY[name], at)
        row = await agreeing(sessions, model)
        assert 0 <= row.revision - revision <= 2
        revision = row.revision
    print(f"{struck} crash points")


async def test_a_replica_that_loses_postgres_at_any_point_of_a_beat_never_goes_back_and_is_never_counted_wrongly(
    sessions: Sessions, config: Settings, tmp_path: Path
) -> None:
    """Its memory flips before the COMMIT of its receipt: between the two it answers with more than it has said."""
    model = await begin_served(sessions, config, tmp_path)
    serving = Replica(config, sessions, News(config))
    generation, at, dead = 3, 0, True
    while dead:
        at, generation, target = at + 1, generation + 1, generation % 2 + 1
        await warm(serving, sessions, model, target)
        await Call(sessions, config, model).rollback(target)
        fate = Fate(at)
        async with mortal(config, fate) as serving._sessions:
            with suppress(Killed, SQLAlchemyError):
                await serving.beat()
        dead, serving._sessions = fate.has_struck, sessions
        said, answers = await receipt(sessions, serving), serving.slots[model].generation
        assert said <= answers <= generation, "a receipt for a generation that it does not answer with"
        assert generation - 1 <= said, "a receipt never goes back"
        await serving.beat()
        assert serving.slots[model].generation == await receipt(sessions, serving) == generation
    print(f"beat: {at - 1} crash points")


async def begin_served(sessions: Sessions, config: Settings, folder: Path) -> str:
    """Versions 1 and 2 with artifacts that a replica can load. Both were active: a rollback may go to either."""
    model = "fraud"
    digests = [publish(config.store, folder / f"v{bias}", bias=bias) for bias in (-2.0, 2.0)]
    async with sessions() as session, session.begin():
        await define(session, model)
        for digest, incumbent in zip(digests, (None, 1), strict=True):
            await version(session, config, model, artifact=digest, incumbent=incumbent)
    for operation in SWAPPED:
        await operation(Call(sessions, config, model))
    await Call(sessions, config, model).rollback()
    return model


async def warm(serving: Replica, sessions: Sessions, model: str, number: int) -> None:
    """Beats until Postgres knows that the version is loaded."""
    async with asyncio.timeout(10):
        while True:
            await serving.beat()
            async with sessions() as session:
                if [row.warm for row in await swap.live_replicas(session, model)] == [number]:
                    return
            await asyncio.gather(*serving._shelf(model).loading.values())


async def receipt(sessions: Sessions, serving: Replica) -> int:
    async with sessions() as session:
        return (await session.scalars(select(ReplicaSlots.served).where(ReplicaSlots.replica == serving.id))).one()
