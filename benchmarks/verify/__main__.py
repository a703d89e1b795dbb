"""Both models searched, every broken variant caught, and the real coordinator killed at every statement it sends."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.report import Report, progress, report, size
from benchmarks.verify import models, spin

CRASHES = "tests/registry/test_crash_points.py"
# Sequences of calls that the crash points are spread over, by size; the test alone takes fewer.
SEQUENCES = {models.SMALL: 20, models.LARGE: 300}
CRASHES_SECONDS = 900.0


def main() -> None:
    asked = size(models.LARGE)
    began = time.monotonic()
    with report("verify") as told:
        spin.compiler()
        search(told, asked)
        catch(told)
        crash(told, SEQUENCES[min(max(asked, models.SMALL), models.LARGE)])
        told.tell(f"{time.monotonic() - began:.0f} s")


def search(told: Report, asked: int) -> None:
    """Everything that must hold: how many states of each model were searched; what was found there is told by name."""
    states: Counter[str] = Counter()
    for wanted in models.whole(asked):
        found = spin.run(wanted)
        states[wanted.model] += found.states
        said = f"{wanted.name}: {found.states:,} states"
        if found.error is None and (found.whole or wanted.bitstate):
            progress(said)
        else:
            told.tell(f"{said}, {found.error or 'not searched whole'}", holds=False)
    for model, count in states.items():
        told.tell(f"{model}: {count:,} states")


def catch(told: Report) -> None:
    """Every variant must be caught: a model that catches nothing proves nothing."""
    for model in ("job", "swap"):
        names = models.variants(model)
        with ThreadPoolExecutor(os.cpu_count()) as at_once:
            caught = list(at_once.map(partial(is_caught, model), names))
        missed = [name for name, is_so in zip(names, caught, strict=True) if not is_so]
        said = f"{model}: {sum(caught)} of {len(names)} broken variants caught"
        told.tell(said + (f", not {', '.join(missed)}" if missed else ""), not missed)


def is_caught(model: str, variant: str) -> bool:
    wanted = models.broken(model, variant)
    found = spin.run(wanted)
    progress(f"{wanted.name}: {found.error or 'NOT caught'} ({found.states:,} states)")
    return found.error is not None


def crash(told: Report, sequences: int) -> None:
    """The real code against a real Postgres, killed at every point; the test says how many points there were."""
    environment = os.environ | {"REFIT_TEST_SEQUENCES": str(sequences)}
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", CRASHES)
    ended = subprocess.run(
        pytest, env=environment, capture_output=True, text=True, timeout=CRASHES_SECONDS, check=False
    )
    if ended.returncode != 0:
        progress(ended.stdout)
    points = sum(int(count) for count in re.findall(r"(\d+) crash points", ended.stdout))
    told.tell(f"{points} crash points of the coordinator and the replica", ended.returncode == 0 and points > 0)


if __name__ == "__main__":
    main()
