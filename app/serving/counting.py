"""What a replica answered, counted beside the serving path: a request appends to lists, a thread counts them in bulk.

A ledger belongs to a version in a slot. Its present block takes what is answered; about once a second the block is
closed, counted (app/traffic/tally.py) and told to Postgres by `app/serving/bookkeeping.py`. Every request and every
label is counted; columns and scores up to a budget of cells, beyond which whole requests are left out by chance, and
their rows counted as skipped. So memory and time are bounded however much is asked.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from app.feedback.answers import Answers, write_answers
from app.feedback.log import Exchange
from app.feedback.mirrored import Mirrors, pairs_of
from app.metrics import PREDICTIONS
from app.runtimes import Batch, Prediction
from app.runtimes.rows import without_names
from app.runtimes.schema import InputSchema
from app.serving.blocks import Block, Logged, Promised
from app.serving.loaded import Loaded
from app.traffic import tally
from app.traffic.layout import Layout, kept

# A second's worth: comparing so many numbers with their edges takes a millisecond. A name costs more.
CELLS = 2**17
COST_OF_A_NAME = 16
# So many closed blocks wait at most.
MOST_BLOCKS = 16
# Of what is drawn for the log, in a second.
MOST_EXCHANGES = 100
IDLE_SECONDS = 600


class Key(NamedTuple):
    """Whose answers a ledger counts. `slot` is active, standby, canary or shadow."""

    model: str
    version: int
    generation: int
    slot: str


class Counted(NamedTuple):
    """A closed block: its vector, and its answers in short (of a shadow, where it is known what they mirror)."""

    counts: tally.Counts
    answers: Answers | None
    logged: list[Logged]


@dataclass
class Missed:
    """Requests of which no labels are known: failed, refused, or lost with a block that nobody came for."""

    requests: int = 0
    rows: int = 0
    skipped: int = 0
    errors: int = 0
    invalid: int = 0


class Ledger:
    """One version in one slot. `note` is called by the threads that answer, `close` by the one that counts."""

    def __init__(self, key: Key, schema: InputSchema, layout: Layout, full: Callable[[], None]) -> None:
        self.key, self.schema, self.layout = key, schema, layout
        self.idle_since = time.monotonic()
        self.is_forgotten = False
        self._full = full
        self._lock = threading.Lock()
        self._closed: deque[Block] = deque()
        self._kept: list[tuple[Promised, float]] = []
        self._exchanges: list[tuple[str, Exchange]] = []
        self._missed, self._rows = Missed(), 0
        slot = "standby" if key.slot == "canary" else key.slot
        self._rows_answered = PREDICTIONS.labels(key.model, key.version, slot)
        names = len(schema.categorical) + (schema.text is not None)
        self._cost = max(1, len(schema.numeric) + COST_OF_A_NAME * names)
        self._block = Block(schema, max(1, CELLS // self._cost), 1.0)

    def note(
        self,
        batch: Batch,
        predictions: Sequence[Prediction],
        seconds: float,
        *,
        log: bool = False,
        mirrors: Mirrors | None = None,
    ) -> str:
        """The request's id. `seconds` from its body to the version's answer. A shadow's ledger is told with every
        request what it mirrors, or with none."""
        rows = len(batch.numeric)
        with self._lock:
            if not self._block.holds(rows):
                self._shut(self._block.seen.room, self._block.share)
                self._full()
            request = self._block.add(rows, batch, predictions, seconds)
            if log:
                self._block.logged.append(Logged(request, batch, predictions))
            if mirrors is not None:
                self._block.mirrors.append(mirrors)
        return request

    def note_texts(self, rows: int, seconds: float) -> str:
        """As `note`, of a version that answers with text: what it was asked is counted nowhere."""
        return self.note(without_names(np.empty((rows, 0), np.float32)), (), seconds)

    def keep(self, promised: Promised, seconds: float) -> None:
        """One row was answered, in so many seconds, under the id that was told before."""
        with self._lock:
            self._kept.append((promised, seconds))

    def log(self, request: str, exchange: Exchange) -> None:
        """What is too long, or too much for a second, is left out."""
        with self._lock:
            if exchange.is_short and len(self._exchanges) < MOST_EXCHANGES:
                self._exchanges.append((request, exchange))

    def failed(self) -> None:
        """The version could not answer: 5xx."""
        with self._lock:
            self._missed.requests += 1
            self._missed.errors += 1

    def refused(self) -> None:
        """The rows did not fit the version: 4xx."""
        with self._lock:
            self._missed.requests += 1
            self._missed.invalid += 1

    @property
    def has_drawn(self) -> bool:
        return bool(self._exchanges)

    def drawn(self) -> list[tuple[str, Exchange]]:
        """The exchanges that were drawn for the log since, by request."""
        with self._lock:
            exchanges, self._exchanges = self._exchanges, []
        return exchanges

    def close(self, cells: int) -> list[Counted]:
        """Everything noted since, counted. `cells` is the budget until the next time."""
        room = max(1, cells // self._cost)
        with self._lock:
            if self._block.sizes:
                self._shut(room, min(1.0, room / (self._rows + self._block.rows)))
            closed, self._closed, self._rows = list(self._closed), deque(), 0
            kept_promises, self._kept = self._kept, []
            missed, self._missed = self._missed, Missed()
        counted = [self._count(block) for block in closed]
        counted += [self._count_one(promised, seconds) for promised, seconds in kept_promises]
        if missed != Missed():
            counts = tally.empty(self.layout)
            tally.add_totals(counts, **asdict(missed))
            counted.append(Counted(counts, None, []))
        if counted:
            self.idle_since = time.monotonic()
        return counted

    def _shut(self, room: int, share: float) -> None:
        """Closes the present block. Where too many wait already it is lost, and counted as such."""
        block = self._block
        self._rows += block.rows
        if len(self._closed) < MOST_BLOCKS:
            self._closed.append(block)
        else:
            self._missed.requests += len(block.sizes)
            self._missed.rows += block.rows
            self._missed.skipped += block.rows
        self._block = Block(self.schema, room, share)

    def _count(self, block: Block) -> Counted:
        counts = tally.empty(self.layout)
        labels = block.labels()
        tally.add_totals(counts, requests=len(block.sizes), rows=block.rows, skipped=block.rows - block.seen.rows)
        tally.add_latencies(self.layout, counts, block.seconds)
        for head, indices in zip(self.schema.heads, labels, strict=True):
            tally.add_labels(self.layout, counts, kept(head.name), indices)
        if block.seen.rows:
            tally.add_columns(self.layout, counts, self.schema, block.seen)
            tally.add_scores(self.layout, counts, self.schema, block.seen)
        keeps = self.key.slot != "shadow" or block.mirrors
        mirrored = pairs_of(block.mirrors)
        answers = write_answers(block.id, block.check, block.sizes, labels, mirrored) if keeps else None
        self._rows_answered.inc(block.rows)
        return Counted(counts, answers, block.logged)

    def _count_one(self, promised: Promised, seconds: float) -> Counted:
        counts = tally.empty(self.layout)
        tally.add_totals(counts, requests=1, rows=1)
        tally.add_latencies(self.layout, counts, [seconds])
        self._rows_answered.inc()
        return Counted(counts, write_answers(*promised, [1], []), [])


class Counting:
    """The ledgers of a replica. `when_full` is called, by any thread, once a block should be counted early."""

    def __init__(self) -> None:
        self._ledgers: dict[Key, Ledger] = {}
        self.when_full: Callable[[], None] = lambda: None

    def ledger_of(self, key: Key, version: Loaded) -> Ledger:
        """`version` is the one that answers."""
        ledger = self._ledgers.get(key)
        if ledger is None:
            made = Ledger(key, version.schema, version.layout, self._full)
            ledger = self._ledgers.setdefault(key, made)
        return ledger

    def close(self) -> list[tuple[Ledger, list[Counted]]]:
        """What every ledger has counted since. Ledgers that were idle for ten minutes are forgotten."""
        ledgers = list(self._ledgers.values())
        found = [(ledger, ledger.close(CELLS // len(ledgers))) for ledger in ledgers]
        for ledger, counted in found:
            if not counted and time.monotonic() - ledger.idle_since > IDLE_SECONDS:
                self._ledgers.pop(ledger.key, None)
                ledger.is_forgotten = True
        # An exchange may have come between its count, which was told before, and now.
        return [(ledger, counted) for ledger, counted in found if counted or ledger.has_drawn]

    def _full(self) -> None:
        self.when_full()
