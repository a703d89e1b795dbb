"""One section of the benchmark by itself: `python -m benchmarks.bench.polling 1`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench.setting import FULL, Setting
from benchmarks.peers.model import train
from benchmarks.report import Report, report, size
from benchmarks.service import running


def alone(name: str, measure: Callable[[Setting, Report], str]) -> None:
    """Prints the section's Markdown and then the line."""
    with report(name) as told, furnished(size(FULL)) as setting:
        print(f"{measure(setting, told)}\n")


@contextmanager
def furnished(size: int) -> Iterator[Setting]:
    """A service with both versions of the model, which goes away with all that the sections have written."""
    with running() as service, TemporaryDirectory(prefix="refit-bench-") as temporary:
        scratch = Path(temporary)
        yield Setting(size, service, train(service, scratch / "versions"), scratch)
