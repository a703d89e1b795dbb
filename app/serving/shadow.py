"""The shadow: what active has answered is asked of standby too, after the answer was sent, and both are compared.

One request at a time in a thread of its own, which rests as long as it worked; what comes faster is dropped, and
counted.
"""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from app.errors import RefitError
from app.feedback.answers import named
from app.feedback.mirrored import Mirrors
from app.runtimes import Batch, Prediction
from app.runtimes.schema import InputSchema
from app.serving.bodies import Read
from app.serving.counting import Counting, Key
from app.serving.directions import Running, Seen
from app.serving.target import Asked, Target

log = logging.getLogger(__name__)

# So many requests wait, so many rows of them, and so many bytes of their bodies.
MOST_REQUESTS, MOST_ROWS, MOST_BYTES = 64, 20_000, 2**26


class Mirrored(NamedTuple):
    """What active answered, `request` its id."""

    trial: Running
    request: str
    asked: Asked
    predictions: Sequence[Prediction]
    read: Read
    body: bytes


class Shadow:
    """`mirror` puts a request into the queue, `run` works it off for ever.

    Where active's answers are kept for feedback (`keeps`) so are the shadow's, with what each of them mirrors: a label
    that comes for the one tells of the other.
    """

    def __init__(self, counting: Counting, *, keeps: bool) -> None:
        self._counting, self._keeps = counting, keeps
        self._queue: deque[Mirrored] = deque()
        self._rows, self._bytes = 0, 0
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")

    def mirror(self, mirrored: Mirrored) -> None:
        rows, size = len(mirrored.asked.batch), len(mirrored.body)
        is_full = len(self._queue) >= MOST_REQUESTS
        if is_full or self._rows + rows > MOST_ROWS or self._bytes + size > MOST_BYTES:
            mirrored.trial.seen.add(Seen(dropped=1))
            return
        self._rows += rows
        self._bytes += size
        self._queue.append(mirrored)
        self._came.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._came.wait()
                while self._queue:
                    mirrored = self._queue.popleft()
                    self._rows -= len(mirrored.asked.batch)
                    self._bytes -= len(mirrored.body)
                    if not mirrored.trial.concerns(mirrored.asked.target.slots):
                        continue
                    began = time.perf_counter()
                    seen = await loop.run_in_executor(self._thread, self._answer, mirrored)
                    mirrored.trial.seen.add(seen)
                    await asyncio.sleep(time.perf_counter() - began)
                self._came.clear()
        finally:
            self._thread.shutdown(wait=False)

    def _answer(self, mirrored: Mirrored) -> Seen:
        target = mirrored.asked.target
        standby = target.slots.standby
        if standby is None:
            return Seen()
        key = Key(target.slots.model, standby.number, target.slots.generation, "shadow")
        ledger = self._counting.ledger_of(key, standby)
        began = time.perf_counter()
        try:
            batch = _batch(mirrored, standby.schema)
            predictions = standby.predictor.predict(batch)
        except RefitError as error:
            (ledger.failed if error.status >= 500 else ledger.refused)()
            return Seen()
        except Exception:
            log.exception("version %s of %s could not answer as a shadow", key.version, key.model)
            ledger.failed()
            return Seen()
        seconds = time.perf_counter() - began
        answered = named(uuid.UUID(mirrored.request))
        mirrors = Mirrors(mirrored.trial.id, answered.block, answered.number) if self._keeps else None
        ledger.note(batch, predictions, seconds, mirrors=mirrors)
        before, now = target.version.schema, standby.schema
        return compare((before, mirrored.predictions), (now, predictions))


def _batch(mirrored: Mirrored, schema: InputSchema) -> Batch:
    """The rows as standby reads them; read once more where it reads other columns."""
    asked = mirrored.asked
    known = asked.target.version.schema
    if (known.columns, known.text) == (schema.columns, schema.text):
        return asked.batch
    standby = asked.target.slots.standby
    assert standby is not None
    target = Target(asked.target.slots, "standby", standby, asked.target.max_rows, "shadow")
    return mirrored.read(mirrored.body, lambda *_: target).batch


def compare(
    active: tuple[InputSchema, Sequence[Prediction]], standby: tuple[InputSchema, Sequence[Prediction]]
) -> Seen:
    """By the first head: rows, those with equal labels, and the sum of |score - score|."""
    (known, before), (schema, now) = active, standby
    labels = [schema.heads[0].label_array[now[0].indices], known.heads[0].label_array[before[0].indices]]
    return Seen(
        requests=1,
        rows=len(labels[0]),
        agreed=int(np.count_nonzero(labels[0] == labels[1])),
        difference=float(np.abs(now[0].scores - before[0].scores).sum(dtype=np.float64)),
    )
