"""What a replica is told beyond its slots: trials that run, and which share of the requests is logged.

Read at every word of a change and each second without one. While Postgres is away the last word holds; a trial ends by
its own clock, and by the slots that the request found: once active or standby is another version, it is over at once.
"""

import hashlib
import logging
import time
from dataclasses import dataclass, field
from random import random

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.news import News
from app.serving.replica import Slots
from app.serving.target import Target
from app.trials.service import CHANNEL

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
ROUTING_KEY = b"x-routing-key"

TRIALS = text("""
    SELECT id, model, kind, share, active, standby, salt, max_requests - requests,
           CAST(extract(epoch FROM ends_at - clock_timestamp()) AS float)
    FROM trials WHERE state = 'running'
""")
SAMPLES = text("""
    SELECT models.name, CAST(definition.definition -> 'logging' ->> 'sample' AS float),
           CAST(definition.definition -> 'logging' ->> 'keep_days' AS float)
    FROM models JOIN model_definitions AS definition
        ON definition.model = models.name AND definition.revision = models.revision
    WHERE CAST(definition.definition -> 'logging' ->> 'sample' AS float) > 0
""")


@dataclass
class Seen:
    """What this replica has seen of a trial and not yet told: requests that standby answered, and what was compared."""

    requests: int = 0
    rows: int = 0
    agreed: int = 0
    difference: float = 0.0
    dropped: int = 0

    def add(self, more: "Seen") -> None:
        """On the event loop alone, where what was told is taken off again."""
        for name, value in vars(more).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Running:
    """A trial as the replica follows it. `left` requests may still be answered; None: as many as come."""

    id: int
    model: str
    kind: str
    share: float
    active: int
    standby: int
    salt: bytes
    left: int | None
    deadline: float  # monotonic
    seen: Seen

    def concerns(self, slots: Slots) -> bool:
        """Whether the slots still hold what is tried, and it is neither late nor done."""
        if slots.active is None or slots.standby is None or time.monotonic() >= self.deadline:
            return False
        if self.left is not None and self.seen.requests >= self.left:
            return False
        return (slots.active.number, slots.standby.number) == (self.active, self.standby)


@dataclass(frozen=True)
class Sample:
    share: float
    keep_days: float


@dataclass
class Directions:
    """`canaries`, `shadows` and `samples` by model are what requests look at."""

    sessions: async_sessionmaker[AsyncSession]
    canaries: dict[str, Running] = field(default_factory=dict)
    shadows: dict[str, Running] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    seen: dict[int, Seen] = field(default_factory=dict)

    async def follow(self, news: News) -> None:
        """For ever."""
        while True:
            try:
                await self.read()
            except (SQLAlchemyError, OSError) as error:
                log.warning("could not read the trials (%s); those in memory go on", error)
            await news.wait(CHANNEL, FRESH_SECONDS)

    async def read(self) -> None:
        began = time.monotonic()
        async with self.sessions() as session:
            running = [self._running(began, *row) for row in await session.execute(TRIALS)]
            samples = {model: Sample(*told) for model, *told in await session.execute(SAMPLES)}
        self.canaries = {trial.model: trial for trial in running if trial.kind == "canary"}
        self.shadows = {trial.model: trial for trial in running if trial.kind == "shadow"}
        self.samples = samples

    def routed(self, target: Target, key: str) -> Target:
        """Standby, where a canary runs and `key` is among its callers; else as it was."""
        trial = self.canaries.get(target.slots.model)
        if trial is None or not trial.concerns(target.slots) or position(trial.salt, key) >= trial.share:
            return target
        assert target.slots.standby is not None
        return target._replace(slot="standby", version=target.slots.standby, arm="canary")

    def note_canary(self, target: Target) -> None:
        """Standby was asked, and has answered or failed: both count for the limit."""
        if trial := self.canaries.get(target.slots.model):
            trial.seen.requests += 1

    def shadow_of(self, target: Target) -> Running | None:
        """The trial that this request is to be mirrored for, by its share."""
        trial = self.shadows.get(target.slots.model)
        if trial is None or target.arm != "active" or not trial.concerns(target.slots):
            return None
        return trial if random() < trial.share else None

    def is_drawn(self, model: str) -> bool:
        """Whether this request goes into the log."""
        sample = self.samples.get(model)
        return sample is not None and random() < sample.share

    def _running(
        self, began: float, id: int, model: str, kind: str, share: float, active: int, standby: int, salt: str,
        left: int | None, seconds: float,
    ) -> Running:  # fmt: skip
        seen = self.seen.setdefault(id, Seen())
        return Running(id, model, kind, share, active, standby, salt.encode(), left, began + seconds, seen)


def position(salt: bytes, key: str) -> float:
    """Where a caller stands in [0, 1): the same for the whole trial on every replica, another one in the next trial."""
    digest = hashlib.blake2b(key.encode(errors="replace"), key=salt, digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
