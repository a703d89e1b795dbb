"""A change of version under constant load, on Refit and on the peers: how soon it is seen, and who notices."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from benchmarks.bench.alone import alone
from benchmarks.bench.markdown import table
from benchmarks.bench.setting import Setting
from benchmarks.bench.systems import plain
from benchmarks.bench.ways import WAYS, Subject, Way
from benchmarks.client import Answer, Lost, connected, steady
from benchmarks.peers import Rows
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.model import rows_of
from benchmarks.report import Report, progress

ROWS = 100
RATE, CONNECTIONS = 50.0, 8
REQUESTS, FEW_REQUESTS = 1_000, 300
# The command is given after this share of the requests.
BEFORE = 0.25


@dataclass(frozen=True)
class Seen:
    """What callers saw of one change, in milliseconds.

    `first_new` is from the command to the first answer of the new version, None where none came. `worst` is the slowest
    answer, from when its request was due, and `stall` the longest time without any.
    """

    first_new: float | None
    failed: int
    worst: float
    stall: float


def measure(setting: Setting, told: Report) -> str:
    """One system after the other, each alone on the machine while it changes. Refit may fail no request."""
    count = REQUESTS if setting.is_full else FEW_REQUESTS
    rows = plain(rows_of(setting.service, ROWS))
    lines = [
        [way.system, way.command, *_cells(_try(way, setting, rows, count, told))]
        for way in WAYS
        if setting.is_full or way.is_quick
    ]
    heading = f"### A change of version under {RATE:.0f} requests/s of {ROWS} rows"
    columns = ["system", "command", "first new answer (ms)", f"failed of {count:,}", "worst answer (ms)", "stall (ms)"]
    return f"{heading}\n\n{table(columns, lines, words=2)}"


def _try(way: Way, setting: Setting, rows: Rows, count: int, told: Report) -> Seen | str:
    """What was seen, or why this system could not be had."""
    try:
        with way.running(setting, rows) as subject:
            seen = _under_load(subject, rows, count)
    except Unavailable as error:
        progress(f"{way.system}, {way.command}: {error}")
        return str(error)
    figure = f"{way.system}, {way.command}: new after {_ms(seen.first_new)} ms, {seen.failed} of {count:,} failed"
    if way.is_ours:
        told.tell(figure, seen.failed == 0 and seen.first_new is not None)
    else:
        progress(figure)
    return seen


def _under_load(subject: Subject, rows: Rows, count: int) -> Seen:
    """The load runs in a thread of its own, because a child that the command starts belongs to the main one."""
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(lambda: asyncio.run(_ask(subject, count / RATE)))
        time.sleep(BEFORE * count / RATE)
        commanded = time.monotonic()
        subject.change()
        ended = load.result()
    answered = _answered(subject, rows, ended)
    new = [answer.done for answer, number in answered if number == subject.versions[-1].number]
    done = sorted([*(answer.done for answer, _ in answered), ended[-1].done])
    return Seen(
        first_new=(min(new) - commanded) * 1e3 if new else None,
        failed=len(ended) - len(answered),
        worst=max(answer.seconds for answer, _ in answered) * 1e3,
        stall=max(later - earlier for earlier, later in pairwise(done)) * 1e3,
    )


async def _ask(subject: Subject, seconds: float) -> list[Answer | Lost]:
    asked = subject.request
    async with connected(subject.url, CONNECTIONS, asked.all_headers.items()) as connections:
        message = connections[0].message("POST", asked.path, asked.body)
        return await steady(connections, RATE, seconds, lambda connection: connection.exchange(message))


def _answered(subject: Subject, rows: Rows, ended: Sequence[Answer | Lost]) -> list[tuple[Answer, int]]:
    """The answers that are of one version alone, as their scores tell, with its number; all others have failed."""

    @cache
    def number_of(scores: tuple[float, ...]) -> int | None:
        return next((v.number for v in subject.versions if v.answered(rows, list(scores))), None)

    answers = [one for one in ended if isinstance(one, Answer) and one.status == 200]
    numbered = [(answer, number_of(tuple(subject.scores(answer.body)))) for answer in answers]
    return [(answer, number) for answer, number in numbered if number is not None]


def _cells(seen: Seen | str) -> list[str]:
    """Of one line of the table, behind system and command."""
    if isinstance(seen, str):
        return [seen, "", "", ""]
    return [_ms(seen.first_new), f"{seen.failed:,}", _ms(seen.worst), _ms(seen.stall)]


def _ms(milliseconds: float | None) -> str:
    return "never" if milliseconds is None else f"{milliseconds:,.0f}"


if __name__ == "__main__":
    alone("change", measure)
