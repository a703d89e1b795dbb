"""Which answers of active a shadow's answers mirror, kept beside its blocks: labels are sent for active's."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text

KEEP_PAIRS = text("""
    INSERT INTO mirrored (block, trial, answered, numbers, places)
    VALUES (:block, :trial, :answered, CAST(:numbers AS int[]), CAST(:places AS int[]))
    ON CONFLICT DO NOTHING
""")


class Mirrors(NamedTuple):
    """Whose answer a shadow's answer mirrors: that of active with this number in this block."""

    trial: int
    block: int
    number: int


class Pairs(NamedTuple):
    """A row of MirroredAnswers, but for the shadow's block."""

    trial: int
    answered: int
    numbers: list[int]
    places: list[int]


def pairs_of(mirrors: Sequence[Mirrors]) -> list[Pairs]:
    """`mirrors` of all requests of a shadow's block, in their order."""
    found: dict[tuple[int, int], Pairs] = {}
    for place, (trial, block, number) in enumerate(mirrors):
        pairs = found.setdefault((trial, block), Pairs(trial, block, [], []))
        pairs.numbers.append(number)
        pairs.places.append(place)
    return list(found.values())
