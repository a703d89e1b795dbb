"""What every client asked and was told, and what was done to the house meanwhile, on one clock.

Times are seconds since the epoch on a clock that never steps, so that they can be held against the database's.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

# Windows of these names mean more to the laws than that somebody was away.
POSTGRES = "postgres"
CUT_OFF = "cut off from Postgres"

_EPOCH = time.time() - time.monotonic()


def now() -> float:
    return wall(time.monotonic())


def wall(monotonic: float) -> float:
    return _EPOCH + monotonic


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `status` None: nobody knows whether it was carried out. `told` is the answer's body."""

    kind: str
    client: str
    replica: str
    sent: float
    done: float
    status: int | None
    asked: Json
    told: Json


@dataclass(frozen=True, slots=True)
class Prediction:
    """One batch. `batch` says which of the fixed ones; `scores` are the answer's, float64 as bytes."""

    replica: str
    model: str
    batch: int
    sent: float
    done: float
    status: int | None
    code: str = ""
    version: int = 0
    generation: int = 0
    stale: bool = False
    scores: bytes = b""


@dataclass
class Window:
    """`who` was away from `began` to `ended`."""

    who: str
    why: str
    began: float
    ended: float = float("inf")

    def meets(self, sent: float, done: float) -> bool:
        return sent < self.ended and done > self.began


@dataclass(frozen=True)
class Loss:
    """The runner of attempt `attempt` of a job was killed or frozen at `at`."""

    job: int
    attempt: int
    at: float


@dataclass(frozen=True)
class Breach:
    """Something seen while it happened that must not be, such as a process that died by itself."""

    law: str
    what: str


@dataclass
class History:
    """Appended to by everybody, read by the laws.

    `last_seen`: job → when a process of it was last seen running. `together`: job → for how many seconds two processes
    of it were seen to advance side by side.
    """

    operations: list[Operation] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    last_seen: dict[int, float] = field(default_factory=dict)
    together: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def away(self, who: str, why: str) -> Iterator[Window]:
        """While the block lasts, `who` cannot be asked to answer, or is cut off."""
        window = Window(who, why, now())
        self.windows.append(window)
        try:
            yield window
        finally:
            window.ended = now()

    def of(self, kind: str) -> list[Operation]:
        return [operation for operation in self.operations if operation.kind == kind]
