"""make chaos: the storm, the laws, and one line."""

import argparse
import asyncio
import signal
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import disks
from benchmarks.chaos import laws, truth
from benchmarks.chaos.clients import Crowd
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.history import POSTGRES, History, now
from benchmarks.chaos.house import JOB_LEASE_SECONDS, furnished
from benchmarks.chaos.laws.predictions import excused
from benchmarks.chaos.laws.slots import SWAPS
from benchmarks.chaos.schedule import Planned, plan
from benchmarks.chaos.storm import live_through
from benchmarks.chaos.truth import Truth
from benchmarks.data import breast_cancer, features
from benchmarks.report import Report, progress, report
from benchmarks.service import processes_of

DEFAULT_FAULTS, DEFAULT_SEED = 75, 1
# The rows of each batch; the last one is so large that it is answered in a thread.
BATCHES = (slice(0, 20), slice(200, 240), slice(0, 400))
# From the moment a worker is lost: its lease runs out, the sweep comes, a worker claims.
RUNS_AGAIN_SECONDS = JOB_LEASE_SECONDS + 5
MOST_PRINTED = 20
DISK_BYTES = 128 * 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    arguments.add_argument("faults", type=int, nargs="?", default=DEFAULT_FAULTS)
    arguments.add_argument("--seed", type=int, default=DEFAULT_SEED)
    asked = arguments.parse_args()
    disks.lacks_mounts()  # asked while this is the only thread
    with report("chaos") as told:
        asyncio.run(chaos(told, asked.faults, asked.seed))


async def chaos(told: Report, count: int, seed: int) -> None:
    """Fewer faults than there are kinds make the brief form: only those that are quick, each for a moment."""
    _end_in_order_at(signal.SIGTERM)
    brief = count < len(FAULTS)
    kinds = [kind for kind in FAULTS if kind.lacks() is None and (kind.brief or not brief)]
    planned, history = plan(kinds, count, seed, brief=brief), History()
    with tempfile.TemporaryDirectory(prefix="refit-chaos-") as temporary:
        folder = Path(temporary)
        data = breast_cancer(folder / "tumours.csv")
        rows = features(data)
        batches = [rows[part] for part in BATCHES]
        with disks.small_disk(folder / "store", DISK_BYTES):
            async with furnished(folder, history) as house:
                began = now()
                await live_through(Crowd(house, batches, seed), data, planned)
                took = now() - began
                found = await asyncio.to_thread(truth.read, house.location, house.store, batches)
            left = processes_of(folder)
    _tell_the_storm(told, planned, took)
    _tell_what_was_found(told, history, found)
    _tell_times(told, history, found, brief=brief)
    told.tell(f"{len(left)} processes left behind", not left)


def _end_in_order_at(number: signal.Signals) -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(number, this.cancel)


def _tell_the_storm(told: Report, planned: list[Planned], took: float) -> None:
    kinds = {one.fault.name for one in planned}
    told.tell(f"{len(planned)} faults of {len(kinds)} kinds in {took:.0f} s")
    for kind in FAULTS:
        if lacking := kind.lacks():
            told.tell(f"left out: {kind.name} ({lacking})")


def _tell_what_was_found(told: Report, history: History, found: Truth) -> None:
    states = Counter(job.state for job in found.jobs)
    told.tell(f"{len(found.jobs)} jobs ({', '.join(f'{n} {state}' for state, n in sorted(states.items()))})")
    told.tell(f"{sum(change.action in SWAPS.values() for change in found.changes)} swaps")
    told.tell(f"{len(history.predictions):,} predictions")
    violations = laws.broken(history, found)
    for law, violation in violations[:MOST_PRINTED]:
        progress(f"BROKEN: {law}: {violation}")
    told.tell(f"{len(violations)} violations", not violations)


def _tell_times(told: Report, history: History, found: Truth, *, brief: bool) -> None:
    """How soon lost jobs ran again, which the brief form does not judge, and who was answered without Postgres."""
    if again := _ran_again(history, found):
        figure = f"a lost worker's job runs again after {max(again):.1f} s at worst (of {len(again)}"
        told.tell(f"{figure}; ≤ {RUNS_AGAIN_SECONDS:g})", brief or max(again) <= RUNS_AGAIN_SECONDS)
    away = [window for window in history.windows if window.who == POSTGRES]
    asked = [p for p in history.predictions if any(window.meets(p.sent, p.done) for window in away)]
    answered = [prediction.status == 200 for prediction in asked if not excused(history, prediction)]
    if answered:
        share = 100 * sum(answered) / len(answered)
        told.tell(f"{share:.4g} % of {len(answered):,} predictions answered while Postgres was away", all(answered))


def _ran_again(history: History, found: Truth) -> list[float]:
    """Seconds from each loss of a worker to the next attempt of its job, where it had one left."""
    starts = [event for event in found.events if event.kind == "job.started"]
    later = [
        [e.at - loss.at for e in starts if e.job == loss.job and (e.attempt or 0) > loss.attempt]
        for loss in history.losses
    ]
    return [seconds[0] for seconds in later if seconds]


if __name__ == "__main__":
    main()
