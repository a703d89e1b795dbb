"""The gate on versions whose true F1 is known: how often it lets a worse one pass, a better one, and an equal one.

Two versions answer the same rows; both are right or wrong by the same luck in most rows, as versions of one model are.
What is drawn are labels, so the gate asks for F1 alone. Its other criteria can only refuse more: to pass, all must.
From the answers on it is the gate itself: criteria, resamples, intervals, verdict.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import pyarrow as pa

from app.gate.criteria import DEFAULT_CRITERIA, Criterion, Gate, Mode, Slice
from app.gate.evidence import Pool, results_of
from app.gate.measurement import Measured
from app.gate.metrics import METRICS
from app.gate.questions import questions_of
from app.gate.report import Verdict
from app.gate.tally import Answers, Floats, Integers, Tally
from app.gate.verdict import overall
from benchmarks.decisions import Figure
from benchmarks.report import report, size

SIZES = (500, 2_000, 10_000)
MARGIN = 0.01  # the runbook's, of F1
SLICE_MARGIN = 0.02
SLICES = 10
WRONGLY = 0.01  # what may pass of a candidate that is worse by twice the margin

F1 = 0.85  # of the incumbent, with precision and recall alike
LABELS = (False, True)
ONLY_F1 = dict.fromkeys(DEFAULT_CRITERIA) | {"f1": Criterion(max_drop=MARGIN)}
WHOLE = Gate(criteria=ONLY_F1)
# Fewer resamples, for time: what decides of slices is one quantile of the largest difference, and 20 lie beyond it.
OF_SHOPS = Slice(column="shop", criteria={"f1": Criterion(max_drop=SLICE_MARGIN)})
SLICED = Gate(criteria=ONLY_F1, resamples=1_000, slices=[OF_SHOPS])


@dataclass(frozen=True)
class Case:
    """A candidate whose true F1 is `gain` above the incumbent's; in the first of ten shops `first_shop` above it.

    `positive` is the share of positive rows, `shared` that of the rows in which the same luck decides for both.
    """

    name: str
    gain: float
    first_shop: float | None = None
    sliced: bool = False
    mode: Mode = "confident"
    positive: float = 0.3
    shared: float = 0.8

    @property
    def gate(self) -> Gate:
        return SLICED if self.sliced else WHOLE

    @property
    def alarms(self) -> float:
        """The share of negative rows that are called positive: as many as positive ones that are missed."""
        return self.positive * (1 - F1) / (1 - self.positive)

    def recall(self, gain: Floats) -> Floats:
        """Which reaches F1 + gain at the same false alarms: solves F1 = 2pr / (pr + (1 - p)f + p) for r."""
        alarms, f1 = (1 - self.positive) * self.alarms, F1 + gain
        return f1 * (alarms + self.positive) / (self.positive * (2 - f1))


WORSE = Case("worse by twice the margin", -2 * MARGIN)
RARE = replace(WORSE, name=f"{WORSE.name}, 5% positive", positive=0.05)
UNLIKE = replace(RARE, name=f"{RARE.name}, versions unlike", shared=0.0)
EQUAL = Case("equal", 0)
BETTER = Case("better by twice the margin", 2 * MARGIN)
EQUAL_SLICED = Case(f"equal, in {SLICES} slices", 0, sliced=True)
WORSE_IN_ONE = Case("better by twice the margin, one of 10 slices worse by 0.10", 2 * MARGIN, -0.10, sliced=True)
TO_THE_LETTER = replace(WORSE, name=f"{WORSE.name}, mode point", mode="point")


def simulate(draws: int) -> list[Figure]:
    """What the gate says in `draws` draws of each case. Takes about two minutes for 1,000 on one core."""
    return list(_figures(draws))


def _figures(draws: int) -> Iterator[Figure]:
    # A few draws cannot show less than a hundredth: they may be off by what so many are off by.
    doubt = 0.0 if draws >= 1_000 else 3 * (WRONGLY * (1 - WRONGLY) / draws) ** 0.5
    for case, n in product((WORSE, RARE, UNLIKE), SIZES):
        swapped = verdicts(case, n, draws)["pass"] / draws
        yield Figure(f"{case.name} at n = {n}: passes {swapped:.1%} of {draws}", swapped < WRONGLY + doubt)
    for n in SIZES:
        yield Figure(_told(BETTER, n, draws))
    for n in SIZES:
        yield Figure(_told(EQUAL, n, draws))
    for n in SIZES:
        found, plain = (verdicts(case, n, draws) for case in (EQUAL_SLICED, EQUAL))
        refused = (found["fail"] - plain["fail"]) / draws
        share = (1 - SLICED.confidence) / 2  # of all groups together; and what so many draws may be off by
        most = share + 3 * (share * (1 - share) / draws) ** 0.5
        yield Figure(f"{_told(EQUAL_SLICED, n, draws)}: {refused:.1%} for the slices", refused <= most)
    for n in SIZES:
        yield Figure(_told(WORSE_IN_ONE, n, draws))
    yield Figure(_told(TO_THE_LETTER, SIZES[0], draws))


def _told(case: Case, n: int, draws: int) -> str:
    found = verdicts(case, n, draws)
    shares = ", ".join(f"{name} {found[name] / draws:.1%}" for name in ("pass", "inconclusive", "fail"))
    return f"{case.name} at n = {n}: {shares}"


@cache
def verdicts(case: Case, n: int, draws: int) -> Counter[Verdict]:
    rng = np.random.default_rng(n)
    return Counter(_verdict(case, n, rng) for _ in range(draws))


def _verdict(case: Case, n: int, rng: np.random.Generator) -> Verdict:
    """One holdout of n rows, both versions' answers to it, and what the gate says."""
    truth = (rng.random(n) < case.positive).astype(np.int64)
    shops = rng.integers(SLICES, size=n)
    incumbent, candidate = _luck(n, case.shared, rng)
    gain = np.full(n, case.gain)
    if case.first_shop is not None:
        gain[shops == 0] = case.first_shop
    mine = _measured(truth, candidate, np.where(truth, case.recall(gain), case.alarms))
    theirs = _measured(truth, incumbent, np.where(truth, F1, case.alarms))
    pool = Pool(np.arange(n), mine, theirs)
    table = pa.table({"shop": shops})
    questions = questions_of(table, "y", str, case.gate, case.mode, first=True)
    results = results_of(questions, pool, pool, LABELS, case.gate, seed=int(rng.integers(2**31)))
    per_class = {str(label): int((truth == label).sum()) for label in LABELS}
    return overall(results, n, per_class, case.gate)[0]


def _luck(n: int, shared: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Uniform numbers, (n,) for each version; in most rows both have the same."""
    mine, theirs = rng.random(n), rng.random(n)
    return theirs, np.where(rng.random(n) < shared, theirs, mine)


def _measured(truth: Integers, luck: Floats, reach: Floats) -> Measured:
    """A row is called positive where the luck is within reach; how far within it is stands for the probability."""
    predicted = (luck < reach).astype(np.int64)
    score = 1 / (1 + np.exp(luck - reach))
    answers = Answers(truth, predicted, np.column_stack([1 - score, score]))
    return Measured(answers, {"f1": float(METRICS["f1"](Tally(answers, np.ones((1, len(truth)))))[0])}, 0)


if __name__ == "__main__":
    with report("gate") as told:
        for figure in simulate(size(1_000)):
            told.tell(figure.sentence, figure.holds)
