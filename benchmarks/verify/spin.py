"""One run of Spin: a model and its definitions → a C program that searches every interleaving → what it found."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent
COMPILERS = ("gcc", "cc", "clang")
# The longest path that is followed. Where a search would go deeper, it was not whole.
DEEPEST = 2_000_000


class ToolMissing(Exception):
    """Spin or a C compiler is not installed."""


class SearchFailed(Exception):
    """Spin, the compiler or the search itself ended without an answer."""


@dataclass(frozen=True)
class Search:
    """What to search: safety (assertions and deadlocks), or one `claim` of the model under weak fairness.

    `bitstate`: a hash of each state instead of the state, which goes further and may miss some; where its `seconds` are
    used up it tells what it has seen. `long`: worth the compiler's time, and packed in memory (`memory` is in MiB).
    """

    model: str
    defines: tuple[str, ...] = ()
    claim: str | None = None
    bitstate: bool = False
    depth: int = DEEPEST
    long: bool = False
    memory: int = 4_000
    seconds: float = 180.0

    @property
    def name(self) -> str:
        return " ".join((self.model, *self.defines, self.claim or ""))


@dataclass(frozen=True)
class Found:
    """`error` is Spin's own line, None where nothing was found; `whole` says that nothing was left unsearched."""

    states: int
    error: str | None
    whole: bool


def compiler() -> str:
    """Raises ToolMissing, saying how to install what is missing."""
    found = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if found is None or shutil.which("spin") is None:
        missing = "spin" if found else "a C compiler"
        raise ToolMissing(
            f"{missing} is not installed: apt-get install spin gcc (Debian, Ubuntu), brew install spin (macOS)"
        )
    return found


def run(search: Search) -> Found:
    """Generates, compiles and searches in a temporary folder. Raises ToolMissing or SearchFailed."""
    with tempfile.TemporaryDirectory(prefix="refit-verify-") as folder:
        defines = [f"-D{define}" for define in search.defines]
        _call(folder, 60, "spin", *defines, "-a", str(MODELS / f"{search.model}.pml"))
        _call(folder, 120, compiler(), "-O2" if search.long else "-O1", "-w", *_flags(search), "-o", "pan", "pan.c")
        chosen = ["-a", "-f", "-N", search.claim] if search.claim else []
        width = ["-w31", "-k2"] if search.bitstate else []
        limit = [f"-Q{search.seconds / 60:.0f}"] if search.bitstate else []
        told = _call(folder, search.seconds + 60, "./pan", *limit, f"-m{search.depth}", *width, *chosen)
    return _found(search, told)


def _flags(search: Search) -> list[str]:
    memory = f"-DMEMLIM={search.memory}"
    if search.claim:
        return [memory, "-DNFAIR=3"]
    packed = ["-DBITSTATE"] if search.bitstate else ["-DCOLLAPSE"] if search.long else []
    return [memory, "-DSAFETY", "-DNOCLAIM", *packed]


def _call(folder: str, seconds: float, *command: str) -> str:
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SearchFailed(f"{command[0]} took longer than {seconds:g} s") from None
    if ended.returncode != 0:
        raise SearchFailed(f"{command[0]}: {(ended.stdout + ended.stderr).strip()[-400:]}")
    return ended.stdout


def _found(search: Search, told: str) -> Found:
    states = re.search(r"^\s*([\d.e+]+) states, stored", told, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", told)
    if states is None or errors is None:
        raise SearchFailed(f"{search.name}: {told.strip()[-400:]}")
    error = re.search(r"^pan:\d+: (.*)$", told, re.MULTILINE)
    truncated = "max search depth too small" in told or "reached the memory limit" in told
    violated = errors[1] != "0"
    reason = (error[1] if error else "an error") if violated else None
    return Found(int(float(states[1])), reason, not truncated and not violated)
