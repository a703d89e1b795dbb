"""Watches of versions whose truth is known: how often a good one is rolled back, and how soon a bad one.

Each draw makes a holdout, on which the gate measures the version, and then labels that come back in a watch that is
looked at after every batch: through the real `promise` and `look`, which see counts only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from app.definitions.watching import WatchOptions
from app.watch.promise import promise
from app.watch.verdict import look
from benchmarks.decisions import Figure
from benchmarks.report import report, size

HOLDOUT, LABELS, LOOKS = 5_000, 20_000, 400
PREVALENCE, F1 = 0.4, 0.90
DROP = 0.05
SCORES = np.full(10, 500)


@dataclass(frozen=True)
class Outcome:
    """`labels` (n,) is after how many labels each draw was rolled back, or None where it never was."""

    labels: list[int | None]

    @property
    def share(self) -> float:
        return sum(found is not None for found in self.labels) / len(self.labels)

    @property
    def after(self) -> float | None:
        found = [labels for labels in self.labels if labels is not None]
        return median(found) if found else None


def watched(draws: int, f1: float, *, seed: int, labels: int = 2) -> Outcome:
    """The gate saw a version of F1; live it has `f1`. With more than two labels both are of every label."""
    rng = np.random.default_rng(seed)
    return Outcome([_watched(rng, f1, labels) for _ in range(draws)])


def _watched(rng: np.random.Generator, f1: float, labels: int) -> int | None:
    options = WatchOptions()
    profile = {"heads": {"y": {"scores": {"edges": [0.0] * 9, "counts": SCORES.tolist()}}}}
    promised = promise(options, {"y": _standing(_confusion(rng, F1, HOLDOUT, labels))}, 1.0, profile, {})
    seen = np.zeros((labels, labels), np.int64)
    scores = np.zeros(10, np.int64)
    for place in range(1, LOOKS + 1):
        seen += _confusion(rng, f1, LABELS // LOOKS, labels)
        scores += rng.multinomial(LABELS // LOOKS, SCORES / SCORES.sum())
        found = look(promised, _numbers(seen, scores, place * LABELS // LOOKS))
        if any(each.is_established for each in found.values()):
            return place * LABELS // LOOKS
    return None


def _confusion(rng: np.random.Generator, f1: float, rows: int, labels: int) -> Any:
    """(labels, labels). Two labels: precision and recall of the second are both `f1`; more: every label's are."""
    if labels == 2:
        hit, miss = PREVALENCE * f1, PREVALENCE * (1 - f1)
        cells = np.array([1 - PREVALENCE - miss, miss, miss, hit])
    else:
        wrong = (1 - f1) / (labels - 1)
        cells = (np.full((labels, labels), wrong) + np.eye(labels) * (f1 - wrong)).ravel() / labels
    return rng.multinomial(rows, cells).reshape(labels, labels)


def _standing(confusion: Any) -> list[dict[str, int]]:
    every = zip(confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion), strict=True)
    return [{"label": i, "actual": int(a), "given": int(g), "hits": int(h)} for i, (a, g, h) in enumerate(every)]


def _numbers(confusion: Any, scores: Any, requests: int) -> Mapping[str, Any]:
    return {
        "standings": {"y": _standing(confusion)},
        "scores": {"y": scores.tolist()},
        "requests": requests,
        "errors": 0,
        "slow": 0,
        "accepted": 0,
        "rejected": 0,
    }


def simulate(draws: int) -> list[Figure]:
    found = []
    declared = WatchOptions().false_alarms
    for labels in (2, 10):
        named = f"{labels} labels"
        same = watched(draws, F1, seed=labels, labels=labels)
        allowed = declared + 3 * (declared * (1 - declared) / draws) ** 0.5
        told = f"{named}: {same.share:.1%} of {draws} watches without change rolled back (declared: {declared:.0%})"
        found.append(Figure(told, same.share <= allowed))
        worse = watched(draws, F1 - DROP, seed=labels + 1, labels=labels)
        after = "never" if worse.after is None else f"after {worse.after:,.0f} labels at the median"
        found.append(Figure(f"a drop of {DROP} caught in {worse.share:.1%}, {after}", worse.share >= 0.9))
    return found


if __name__ == "__main__":
    with report("watches") as told:
        for figure in simulate(size(1_000)):
            told.tell(figure.sentence, figure.holds)
