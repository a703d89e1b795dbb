"""What a fault is: it begins when its block is entered, lasts as long as the block, and is mended when that ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random

from benchmarks.chaos.clients import Crowd

Story = Callable[[Crowd, Random], AsyncIterator[None]]


@dataclass(frozen=True)
class Fault:
    """`lasts` is the shortest and the longest time in seconds. `brief`: it and its mending fit in a few seconds.

    `lacks` says what this machine lacks for it, or None.
    """

    name: str
    lasts: tuple[float, float]
    brief: bool
    begin: Callable[[Crowd, Random], AbstractAsyncContextManager[None]]
    lacks: Callable[[], str | None]


def fault(
    lasts: tuple[float, float], *, brief: bool = True, lacks: Callable[[], str | None] = lambda: None
) -> Callable[[Story], Fault]:
    """Makes a fault of a generator that yields once, while the fault lasts. Its first line of doc is its name."""

    def made(story: Story) -> Fault:
        assert story.__doc__ is not None
        return Fault(story.__doc__.partition("\n")[0].rstrip("."), lasts, brief, asynccontextmanager(story), lacks)

    return made
