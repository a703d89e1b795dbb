"""What a broken law looks like: what it says, and the records that show it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.history import History
from benchmarks.chaos.truth import Truth

MOST_SHOWN = 6


@dataclass(frozen=True)
class Violation:
    """`shown` are the operations, predictions, events and rows that cannot all be right."""

    what: str
    shown: tuple[Any, ...] = ()

    def __str__(self) -> str:
        shown = [f"\n      {record}" for record in self.shown[:MOST_SHOWN]]
        return self.what + "".join(shown)


Law = Callable[[History, Truth], Iterator[Violation]]
