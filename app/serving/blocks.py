"""What is kept of answers until they are counted, and the ids of their requests, which point into it."""

import os
from array import array
from collections.abc import Sequence
from random import random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.feedback.answers import LAST_WORD, SPREAD, id_prefix
from app.feedback.mirrored import Mirrors
from app.runtimes import Batch, Prediction
from app.runtimes.schema import InputSchema
from app.traffic import tally

# When a block is closed before its second is over.
MOST_REQUESTS, MOST_ROWS = 2**15, 2**19

Labels = npt.NDArray[Any]  # of uint8, or uint16


class Logged(NamedTuple):
    """A request that was drawn for the log."""

    request: str
    batch: Batch
    predictions: Sequence[Prediction]


class Promised(NamedTuple):
    """A request id that is told before its answer is there: a block of its own, for blocks are closed each second."""

    block: int
    check: int

    @classmethod
    def made(cls) -> "Promised":
        return cls(*_ids())

    @property
    def request(self) -> str:
        return f"{id_prefix(self.block)}{0:08x}{self.check:08x}"


class Block:
    """Requests in the order of their ids. What is kept of one is copied into arrays that stand ready.

    To hold on to what a request was answered with would cost more than all the rest, also for a few of them: each next
    one would be answered in memory that is cold, and the garbage collector would follow what is held.
    """

    def __init__(self, schema: InputSchema, room: int, share: float) -> None:
        self.id, self.check = _ids()
        self.prefix = id_prefix(self.id)
        self.share = share  # of the requests of which columns and scores are counted
        self.rows = 0
        self.sizes, self.seconds = array("I"), array("d")
        wide = max((len(head.labels) for head in schema.heads), default=0) > 256
        self.indices: list[Labels] = [np.empty(MOST_ROWS, np.uint16 if wide else np.uint8) for _ in schema.heads]
        self.seen = tally.Seen(schema, room)
        self.logged: list[Logged] = []
        self.mirrors: list[Mirrors] = []

    def holds(self, rows: int) -> bool:
        """Whether so many more have a place."""
        return len(self.sizes) < MOST_REQUESTS and self.rows + rows <= MOST_ROWS

    def add(self, rows: int, batch: Batch, predictions: Sequence[Prediction], seconds: float) -> str:
        """The request's id."""
        place, first = len(self.sizes), self.rows
        self.sizes.append(rows)
        self.seconds.append(seconds)
        self.rows = first + rows
        for indices, prediction in zip(self.indices, predictions, strict=False):
            indices[first : self.rows] = prediction.indices
        if self.seen.room and (self.share >= 1.0 or random() < self.share):
            self.seen.add(rows, batch, predictions)
        return f"{self.prefix}{place:08x}{(place * SPREAD + self.check) & LAST_WORD:08x}"

    def labels(self) -> list[Labels]:
        """By head, of all rows."""
        return [indices[: self.rows] for indices in self.indices]


def _ids() -> tuple[int, int]:
    """A block, and what vouches for the rest of a request id."""
    return int.from_bytes(os.urandom(8), "big", signed=True), int.from_bytes(os.urandom(4), "big")
