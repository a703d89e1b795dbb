"""Every truth of the design is upheld by lines whose removal turns a test red: each is removed, and the test is asked.

`mutants.yaml` names the lines, truth by truth. A mutant that no test catches is a promise that nobody keeps watch over.

    python -m benchmarks.mutants [TRUTH …]      all of them, or those of some truths
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml

from benchmarks.report import Report, progress, report

PROJECT = Path(__file__).parent.parent
TABLE = Path(__file__).with_name("mutants.yaml")
COPIED = ("app", "workers", "migrations", "tests", "examples", "pyproject.toml")
# So many pytests at once, each with a Postgres and a copy of its own to break.
AT_ONCE = min(4, os.cpu_count() or 1)
TIMEOUT_SECONDS = 180.0

# A failure found is enough here: making it small would take Hypothesis minutes. A fixed seed makes it found every time.
UNSHRUNK = """
from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate])
settings.load_profile("unshrunk")
"""
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "unshrunk", "--hypothesis-seed=0")
IMPORTED = "import app, migrations, workers; print(app.__file__, migrations.__file__, workers.__file__)"


class OutOfDate(Exception):
    """The table names a line that does not stand in its file exactly once."""


@dataclass(frozen=True)
class Mutant:
    """In `file`, `line` becomes `leaves`, which removes what upholds a truth; the test `red` must fail."""

    truth: int
    removes: str
    file: str
    line: str
    leaves: str
    red: str


def main() -> None:
    arguments = ArgumentParser(prog="mutants", description="Removes what upholds the truths, and asks their tests.")
    arguments.add_argument("truths", nargs="*", type=int, metavar="TRUTH", help="1 to 12; all of them by default")
    wanted = arguments.parse_args().truths
    mutants = [m for m in table(yaml.safe_load(TABLE.read_text())) if not wanted or m.truth in wanted]
    if not mutants:
        arguments.error("the truths are numbered 1 to 12")
    with report("mutants") as told, tempfile.TemporaryDirectory(prefix="refit-mutants-") as folder:
        began = time.monotonic()
        check(mutants)
        copies = [copy(Path(folder) / f"copy-{n}") for n in range(AT_ONCE)]
        unbroken(copies[0], mutants)
        hunt(told, copies, mutants)
        told.tell(f"{time.monotonic() - began:.0f} s")


def table(truths: dict[int, list[dict[str, Any]]]) -> Iterator[Mutant]:
    """What is left out of `leaves` is removed and nothing comes in its place."""
    for truth, mutants in truths.items():
        for mutant in mutants:
            yield Mutant(
                truth, mutant["removes"], mutant["from"], mutant["line"], mutant.get("leaves", ""), mutant["red"]
            )


def check(mutants: Sequence[Mutant]) -> None:
    """Raises OutOfDate naming every line that has gone, or stands there more than once."""
    found = {m: (PROJECT / m.file).read_text().count(m.line) for m in mutants if (PROJECT / m.file).exists()}
    wrong = [f"{m.file}: {m.removes} ({found.get(m, 0)} ×)" for m in mutants if found.get(m) != 1]
    if wrong:
        raise OutOfDate(f"lines that {TABLE.name} names must stand in their file exactly once: {'; '.join(wrong)}")


def copy(to: Path) -> Path:
    """The project, to be broken at will. Raises RuntimeError where Python would import another one from there."""
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    (to / "unshrunk.py").write_text(UNSHRUNK)
    imported = python(to, "-c", IMPORTED).stdout.split()
    if not imported or not all(Path(file).is_relative_to(to) for file in imported):
        raise RuntimeError(f"in the copy, Python imports {imported}")
    return to


def unbroken(project: Path, mutants: Iterable[Mutant]) -> None:
    """All tests at once, with nothing removed. Raises RuntimeError where one is red: it could prove nothing."""
    tests = list(dict.fromkeys(m.red for m in mutants))
    progress(f"{len(tests)} tests, nothing removed")
    result = python(project, *PYTEST, *tests, timeout=TIMEOUT_SECONDS * 3)
    if result.returncode != 0:
        raise RuntimeError(f"with nothing removed: {last_line(result)}\n{result.stdout[-4_000:]}")


def hunt(told: Report, copies: Sequence[Path], mutants: Sequence[Mutant]) -> None:
    """Tells how many were caught, and each that was not."""
    free: SimpleQueue[Path] = SimpleQueue()
    for project in copies:
        free.put(project)

    def caught(mutant: Mutant) -> bool:
        project = free.get()
        try:
            return is_caught(project, mutant)
        finally:
            free.put(project)

    with ThreadPoolExecutor(len(copies)) as pool:
        count = sum(pool.map(caught, mutants))
    told.tell(f"{count} of {len(mutants)} caught", count == len(mutants))


def is_caught(project: Path, mutant: Mutant) -> bool:
    """True where the test has failed. One that cannot run, or does not come to an end, has caught nothing."""
    try:
        with broken(project, mutant):
            result = python(project, *PYTEST, mutant.red)
    except subprocess.TimeoutExpired:
        progress(f"{mutant.truth:>2}  {mutant.removes} … not caught: {mutant.red} does not end")
        return False
    failed = result.returncode == 1 and re.search(r"^\d+ failed", result.stdout, re.MULTILINE) is not None
    how = f"caught by {mutant.red.partition('::')[2]}" if failed else f"not caught by {mutant.red}: {last_line(result)}"
    progress(f"{mutant.truth:>2}  {mutant.removes} … {how}")
    return failed


@contextmanager
def broken(project: Path, mutant: Mutant) -> Iterator[None]:
    """The line is gone meanwhile. So is its bytecode, which looks fresh to Python for a second."""
    file = project / mutant.file
    whole = file.read_text()
    bytecode = Path(importlib.util.cache_from_source(str(file)))
    bytecode.unlink(missing_ok=True)
    file.write_text(whole.replace(mutant.line, mutant.leaves))
    try:
        yield
    finally:
        file.write_text(whole)
        bytecode.unlink(missing_ok=True)


def python(project: Path, *arguments: str, timeout: float = TIMEOUT_SECONDS) -> subprocess.CompletedProcess[str]:
    """Runs in the copy, which comes before the installed project."""
    environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = result.stdout.strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode} and no word"


if __name__ == "__main__":
    main()
