"""`python -m benchmarks.swaps [SIZE]`: so many changes of version with three replicas, and nobody notices."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

import uvloop

from benchmarks.client import Answer
from benchmarks.report import Report, p99, progress, report, size
from benchmarks.service import Service, running
from benchmarks.swaps.changes import REPLICAS, Fleet, connected_to_all
from benchmarks.swaps.checks import check
from benchmarks.swaps.rounds import RATE, Round, memory_of, play
from benchmarks.swaps.situations import roll_back_in_every_situation
from benchmarks.swaps.versions import Versions, two_versions

MOST_ROUNDS, CHANGES_A_ROUND = 20, 10
# Fewer changes show that nothing goes wrong, and are too few to time.
JUDGED_FROM = 500
RECEIPTS_P50_MS, RECEIPTS_P99_MS = 30.0, 100.0
SLOWER, MORE_MEMORY, MORE_LATENCY = 20.0, 1.0, 5.0


def main() -> None:
    with report("swaps") as told, running("--replicas", str(REPLICAS)) as service:
        versions = two_versions(service)
        uvloop.run(measure(service, versions, told, size(2_000)))


async def measure(service: Service, versions: Versions, told: Report, changes: int) -> None:
    """Plays the rounds and tells what they showed; then the situations."""
    judged = changes >= JUDGED_FROM
    shares = shared_out(changes, max(1, min(MOST_ROUNDS, changes // CHANGES_A_ROUND)))
    async with connected_to_all(service) as fleet:
        # Caches and pools fill before anything is measured.
        warm_up = await play(fleet, versions, 2 * max(shares))
        rounds, memory = [], []
        for number, share in enumerate(shares, 1):
            rounds.append(await play(fleet, versions, share))
            memory.append(memory_of(service))
            progress(f"round {number} of {len(shares)}: {share} changes, {memory[-1]:.1f} MiB")
        tell_correctness(told, fleet, versions, [warm_up, *rounds])
        tell_times(told, rounds, memory, judged)
        await roll_back_in_every_situation(service, fleet, told, changes, judged)


def shared_out(changes: int, rounds: int) -> list[int]:
    """The changes of each round: as equal as can be and even, so that every round begins with the same version."""
    pairs = changes // 2
    return [2 * (pairs * (number + 1) // rounds - pairs * number // rounds) for number in range(rounds)]


def tell_correctness(told: Report, fleet: Fleet, versions: Versions, rounds: Sequence[Round]) -> None:
    changes = [change for round in rounds for change in round.changes]
    answers = [answer for round in rounds for answer in (*round.during, *round.between)]
    whole = [change for change in changes if change.is_whole]
    receipts = f"{REPLICAS} receipts, warm-up included"
    told.tell(f"{len(whole)} of {len(changes)} changes with {receipts}", len(whole) == len(changes))
    found = check(versions, changes, answers)
    asked = Counter(fleet.replica_of.get(answer.connection, "reconnected") for answer in answers)
    shares = "/".join(str(count) for count in asked.values())
    told.tell(f"{len(answers)} requests ({shares} by replica)", len(asked.keys() & set(fleet.replicas)) == REPLICAS)
    told.tell(f"{found.failed} failed", not found.failed)
    told.tell(f"{found.mixed} mixed", not found.mixed)
    told.tell(f"{found.misnamed} misnamed", not found.misnamed)
    told.tell(f"{found.older} older after a 200", not found.older)
    told.tell(f"{found.backwards} backwards", not found.backwards)


def tell_times(told: Report, rounds: Sequence[Round], memory: Sequence[float], judged: bool) -> None:
    """`judged` false: the figures are told, and hold whatever they are."""
    changes = [change for round in rounds for change in round.changes if change.is_whole]
    receipts = [change.receipts_ms for change in changes]
    half, most = median(receipts), p99(receipts)
    told.tell(
        f"commit → all receipts p50 {half:.1f} ms p99 {most:.1f} ms",
        not judged or (half <= RECEIPTS_P50_MS and most <= RECEIPTS_P99_MS),
    )
    calls = [change.seconds * 1_000 for change in changes]
    told.tell(f"call → 200 p50 {median(calls):.0f} ms p99 {p99(calls):.0f} ms")
    during, between = (p99(_ms(rounds, part)) for part in ("during", "between"))
    slower = _growth(between, during)
    told.tell(
        f"prediction p99 at {RATE}/s {between:.2f} ms steady, {during:.2f} ms during swaps ({slower:+.0f} %)",
        not judged or slower <= SLOWER,
    )
    tell_growth(told, rounds, memory, judged)


def tell_growth(told: Report, rounds: Sequence[Round], memory: Sequence[float], judged: bool) -> None:
    """The first tenth of the rounds against the last."""
    tenth = max(1, len(rounds) // 10)
    early, late = (median(_ms(part, "between")) for part in (rounds[:tenth], rounds[-tenth:]))
    slower = _growth(early, late)
    told.tell(f"median {early:.2f} → {late:.2f} ms ({slower:+.1f} %)", not judged or slower <= MORE_LATENCY)
    little, much = (sum(part) / tenth for part in (memory[:tenth], memory[-tenth:]))
    more = _growth(little, much)
    told.tell(f"memory {little:.1f} → {much:.1f} MiB ({more:+.2f} %)", not judged or more <= MORE_MEMORY)


def _ms(rounds: Sequence[Round], part: str) -> list[float]:
    answers = [answer for round in rounds for answer in getattr(round, part)]
    return [answer.seconds * 1_000 for answer in answers if isinstance(answer, Answer)]


def _growth(before: float, after: float) -> float:
    """Percent."""
    return (after / before - 1) * 100


if __name__ == "__main__":
    main()
