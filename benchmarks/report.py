"""The one line in which a command ends, and its exit code."""

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles


@dataclass
class Report:
    """Figures in the order in which they were found; `short` once one of them misses what is promised."""

    name: str
    figures: list[str] = field(default_factory=list)
    short: bool = False

    def tell(self, figure: str, holds: bool = True) -> None:
        """Adds a figure. One that does not hold is marked, and makes the command fail."""
        self.short = self.short or not holds
        self.figures.append(figure if holds else f"[!] {figure}")
        progress(self.figures[-1])

    def line(self) -> str:
        return f"{self.name}: {', '.join(self.figures)} … {'short' if self.short else 'ok'}"


@contextmanager
def report(name: str) -> Iterator[Report]:
    """Prints the line when the block ends, also by an error, and exits with 1 where it is short."""
    told = Report(name)
    try:
        yield told
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the line is owed and says so
        traceback.print_exc()
        told.tell(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", holds=False)
    print(told.line())
    sys.exit(told.short)


def progress(message: str) -> None:
    print(f"  {message}", file=sys.stderr, flush=True)


def size(default: int) -> int:
    """The first argument of the command, where there is one."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


def p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]
