"""What a replica has counted, told to Postgres: answers each second, traffic every few. While it is away, all is kept.

What could not be written is kept and tried again. Vectors only add up, so they cost no more memory; of the answers the
oldest go once they weigh too much, and feedback on those is told that its answer is unknown.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, astuple
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.feedback.answers import Answers, keep_answers
from app.feedback.log import Entry, entry_of, entry_of_texts, keep_log
from app.serving.counting import Counting, Key, Ledger
from app.serving.directions import Directions, Seen
from app.settings import Settings
from app.traffic import service as traffic
from app.traffic.layout import Layout
from app.traffic.tally import Counts

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
MOST_BYTES = 64 * 2**20
# Of the requests that are drawn for the log, at most so many a second.
MOST_LOGGED = 100

ADD_SEEN = text("""
    UPDATE trials SET requests = requests + :requests, rows = rows + :rows, agreed = agreed + :agreed,
                      difference = difference + :difference, dropped = dropped + :dropped
    WHERE id = :id
""")


class Bookkeeping:
    """`start` begins, `close` writes what is left. `flush` is one turn of it."""

    def __init__(
        self, settings: Settings, sessions: async_sessionmaker[AsyncSession], counting: Counting, directions: Directions
    ) -> None:
        self._settings, self._sessions = settings, sessions
        self._counting, self._directions = counting, directions
        self._traffic: dict[tuple[str, int, str], tuple[Layout, Counts]] = {}
        self._answers: deque[tuple[Key, Layout, Answers]] = deque()
        self._weight = 0
        self._log: list[Entry] = []
        self._layouts: set[tuple[str, int]] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counting")
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        counting.when_full = self._hurry

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
            # It may have been in the middle of its last turn.
            with suppress(Exception):
                await self.flush()
        self._thread.shutdown()

    async def flush(self, *, traffic_too: bool = True) -> None:
        """Counts and writes, one caller after the other. What fails is kept."""
        async with self._turn:
            await self._flush(traffic_too=traffic_too)

    async def _flush(self, *, traffic_too: bool) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._count)
        try:
            await self._write_answers()
            await self._write_seen()
            if traffic_too:
                await self._write_traffic()
        except (SQLAlchemyError, OSError) as error:
            log.warning("could not write what was counted (%s); it is kept and tried again", error)
            # One that was written in a transaction that failed is not there.
            self._layouts.clear()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._settings.counting_seconds
        while not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            is_due = loop.time() >= due or self._closing
            try:
                await self.flush(traffic_too=is_due)
            except Exception:
                log.exception("a second of answers could not be counted")
            if is_due:
                due = loop.time() + self._settings.counting_seconds

    def _hurry(self) -> None:
        self._loop.call_soon_threadsafe(self._wake.set)

    def _count(self) -> None:
        """In the thread."""
        room = MOST_LOGGED
        for ledger, counted in self._counting.close():
            for request, exchange in ledger.drawn()[:room]:
                self._log.append(entry_of_texts(ledger.key._asdict(), request, exchange))
                room -= 1
            for found in counted:
                self._add(ledger, found.counts)
                if found.answers is not None:
                    self._keep(ledger, found.answers)
                for logged in found.logged[:room]:
                    self._log.append(entry_of(ledger.key._asdict(), ledger.schema, *logged))
                    room -= 1
        del self._log[: -10 * MOST_LOGGED]

    def _add(self, ledger: Ledger, counts: Counts) -> None:
        key = (ledger.key.model, ledger.key.version, ledger.key.slot)
        if key in self._traffic:
            counts = self._traffic[key][1] + counts
        self._traffic[key] = (ledger.layout, counts)

    def _keep(self, ledger: Ledger, answers: Answers) -> None:
        self._answers.append((ledger.key, ledger.layout, answers))
        self._weight += _weight(answers)
        while self._weight > MOST_BYTES:
            self._weight -= _weight(self._answers.popleft()[2])

    async def _write_answers(self) -> None:
        """A hundred blocks at a time, and the log."""
        while self._answers:
            some = [self._answers[place] for place in range(min(100, len(self._answers)))]
            async with self._sessions() as session, session.begin():
                for key, layout, answers in some:
                    await self._know(session, key.model, key.version, layout)
                    await keep_answers(session, key._asdict() | {"layout": layout.digest}, [answers])
            self._forget(some)
        if entries := list(self._log):
            days = {model: sample.keep_days for model, sample in self._directions.samples.items()}
            async with self._sessions() as session, session.begin():
                await keep_log(session, entries, days)
            del self._log[: len(entries)]

    def _forget(self, written: Sequence[Any]) -> None:
        for _ in written:
            self._weight -= _weight(self._answers.popleft()[2])

    async def _write_seen(self) -> None:
        told = {id: Seen(*astuple(seen)) for id, seen in self._directions.seen.items() if seen != Seen()}
        if not told:
            return
        async with self._sessions() as session, session.begin():
            for id, seen in sorted(told.items()):
                await session.execute(ADD_SEEN, asdict(seen) | {"id": id})
        for id, seen in told.items():
            for name, value in asdict(seen).items():
                kept = self._directions.seen[id]
                setattr(kept, name, getattr(kept, name) - value)

    async def _write_traffic(self) -> None:
        """In the order of the keys, so that two replicas never wait crosswise."""
        due = dict(sorted(self._traffic.items(), key=lambda item: item[0]))
        if not due:
            return
        async with self._sessions() as session, session.begin():
            for (model, version, slot), (layout, counts) in due.items():
                await self._know(session, model, version, layout)
                await traffic.add(session, model, version, slot, layout, counts)
        self._traffic.clear()

    async def _know(self, session: AsyncSession, model: str, version: int, layout: Layout) -> None:
        if (model, version) not in self._layouts:
            await traffic.keep_layout(session, model, version, layout)
            self._layouts.add((model, version))


def _weight(answers: Answers) -> int:
    mirrored = sum(len(pairs.numbers) for pairs in answers.mirrored)
    return len(answers.labels) + len(answers.offsets or b"") + 64 * mirrored + 200
