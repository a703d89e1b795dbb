"""Which faults come, in what order, for how long and with what pauses: all of it drawn from one seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.chaos.faults.fault import Fault

PAUSE_SECONDS = (0.3, 3.0)
# In the brief form.
BRIEF_SECONDS, BRIEF_PAUSE_SECONDS = 4.0, (0.1, 0.4)


@dataclass(frozen=True)
class Planned:
    """A fault that lasts so many seconds, and the calm after it. `seed` chooses its victims."""

    fault: Fault
    seed: int
    lasts: float
    pause: float


def plan(kinds: Sequence[Fault], count: int, seed: int, *, brief: bool) -> list[Planned]:
    """`count` faults: every kind once before any comes again, each round in an order of its own."""
    chance = Random(seed)
    rounds = _rounds(kinds, chance)
    return [_drawn(next(rounds), chance, brief) for _ in range(count)]


def _rounds(kinds: Sequence[Fault], chance: Random) -> Iterator[Fault]:
    while True:
        yield from chance.sample(kinds, len(kinds))


def _drawn(fault: Fault, chance: Random, brief: bool) -> Planned:
    shortest, longest = fault.lasts
    lasts = min(shortest, BRIEF_SECONDS) if brief else chance.uniform(shortest, longest)
    pause = chance.uniform(*(BRIEF_PAUSE_SECONDS if brief else PAUSE_SECONDS))
    return Planned(fault, chance.getrandbits(32), lasts, pause)
