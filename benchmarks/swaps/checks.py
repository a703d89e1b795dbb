"""What DESIGN promises of every answer, held against the history of the changes."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from benchmarks.client import Answer, Lost
from benchmarks.swaps.changes import Change
from benchmarks.swaps.versions import Versions


@dataclass
class Violations:
    """How many answers broke which promise."""

    failed: int = 0  # not 200, or lost
    mixed: int = 0  # the scores are not those of the version that the answer names, row by row
    misnamed: int = 0  # the generation is unknown, or another version was active in it
    older: int = 0  # sent after a 200 that named nobody missing, and of an older generation
    backwards: int = 0  # the same process answered with a later generation before


def check(versions: Versions, changes: Sequence[Change], answers: Iterable[Answer | Lost]) -> Violations:
    """`answers` of several connections, in any order."""
    version_of = {versions.generation: versions.active}
    version_of |= {change.answer["generation"]: change.answer["active"] for change in changes if change.status == 200}
    settled = sorted((change.done, change.answer["generation"]) for change in changes if change.is_whole)
    times = [done for done, _ in settled]
    newest: dict[int, int] = defaultdict(int)
    found = Violations()
    for answer in sorted(answers, key=lambda answer: answer.sent):
        if isinstance(answer, Lost) or answer.status != 200:
            found.failed += 1
            continue
        told = orjson.loads(answer.body)
        generation, version = told["generation"], told["version"]
        before = bisect_right(times, answer.sent)
        found.mixed += told["scores"] != versions.scores.get(version)
        found.misnamed += version_of.get(generation) != version
        found.older += before > 0 and generation < settled[before - 1][1]
        found.backwards += generation < newest[answer.connection]
        newest[answer.connection] = max(generation, newest[answer.connection])
    return found
