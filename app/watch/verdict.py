"""Whether what was seen is established against what was promised. Pure: the same numbers, the same answer.

Every check is a test that holds however often it looks (`app.monitoring.sequential`), at half of its part of the false
alarms; the other half is in its limit. So a version that is what the gate measured is rolled back by mistake in at most
the declared share of all watches.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.monitoring import sequential

Check = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What one check has seen. `evidence` is the logarithm of the wealth won against the promise, or None without data.

    `reason` is what is said if that is established.
    """

    n: int
    value: float | None
    evidence: float | None
    needed: float
    reason: str

    @property
    def is_established(self) -> bool:
        return self.evidence is not None and self.evidence >= self.needed

    def told(self) -> dict[str, Any]:
        evidence = None if self.evidence is None else round(self.evidence, 3)
        return {"n": self.n, "value": self.value, "evidence": evidence, "needed": round(self.needed, 3)}


def look(promised: Mapping[str, Check], numbers: Mapping[str, Any]) -> dict[str, Seen]:
    """By check. `numbers` are those of `app.watch.numbers`."""
    return {name: TESTS[check["kind"]](check, numbers) for name, check in promised.items()}


def _f1(check: Check, numbers: Mapping[str, Any]) -> Seen:
    """Of several labels: half of the stake is on the share of right answers, the other half spread over the labels."""
    counts = {str(each["label"]): each for each in numbers["standings"].get(check["head"], ())}
    won, values = [], []
    for label, limit in check["limits"].items():
        each = counts.get(label, {"actual": 0, "given": 0, "hits": 0})
        both = each["actual"] + each["given"]
        won.append(sequential.f1_at_least(limit, each["hits"], both - 2 * each["hits"]))
        values.append(2 * each["hits"] / both if both else 0.0)
    n = sum(each["actual"] for each in counts.values())
    value = round(sum(values) / len(values), 5)
    limits = list(check["limits"].values())
    limit = sum(limits) / len(limits)
    reason = f"F1 of {check['head']} is {value:.4f} of {n} labels, and surely below {limit:.4f}"
    evidence = sequential.log_mean(won)
    if "right" in check:
        right = sum(each["hits"] for each in counts.values())
        evidence = sequential.log_mean([evidence, sequential.share_at_least(check["right"], right, n)])
    was = "" if check.get("before") is None else f", and the version before had {check['before']:.4f}"
    return _seen(check, n, value, evidence, f"{reason}; the gate measured {check['promised']:.4f}{was}")


def _acceptance(check: Check, numbers: Mapping[str, Any]) -> Seen:
    accepted, n = numbers["accepted"], numbers["accepted"] + numbers["rejected"]
    share = accepted / max(1, n)
    reason = f"{share:.1%} of {n} answers were accepted, surely fewer than {check['limit']:.1%}"
    evidence = sequential.share_at_least(check["limit"], accepted, n)
    return _seen(check, n, share, evidence, f"{reason}; of the version before {check['before']:.1%} were")


def _errors(check: Check, numbers: Mapping[str, Any]) -> Seen:
    errors, n = numbers["errors"], numbers["requests"]
    share = errors / max(1, n)
    reason = f"{errors} of {n} requests failed ({share:.1%}), surely more than {check['limit']:.1%}"
    return _seen(check, n, share, sequential.share_at_most(check["limit"], errors, n), reason)


def _latency(check: Check, numbers: Mapping[str, Any]) -> Seen:
    slow, n = numbers["slow"], numbers["requests"]
    share = slow / max(1, n)
    reason = f"{share:.1%} of {n} requests took more than {check['seconds']:g} s, surely more than {check['limit']:.1%}"
    return _seen(check, n, share, sequential.share_at_most(check["limit"], slow, n), reason)


def _scores(check: Check, numbers: Mapping[str, Any]) -> Seen:
    """Not by a wager: the distance of two distribution functions, with the radius within which chance keeps it."""
    counts = numbers["scores"].get(check["head"], [])
    n = sum(counts)
    if not n or len(counts) != len(check["reference"]):
        return _seen(check, 0, 0.0, 0.0, "")
    moved = sequential.deviation(check["reference"], counts)
    surely = moved - sequential.radius(n, check["false_alarms"] / 2)
    needed = math.log(2 / check["false_alarms"])
    reason = (
        f"the scores of {check['head']} have moved by {moved:.3f} of {n} rows, surely more than {check['limit']:.3f}"
    )
    return Seen(n, round(moved, 5), needed if surely > check["limit"] else 0.0, needed, reason)


def _seen(check: Check, n: int, value: float, evidence: float, reason: str) -> Seen:
    needed = math.log(2 / check["false_alarms"])
    return Seen(n, round(value, 5) if n else None, evidence if n else None, needed, reason)


TESTS = {"f1": _f1, "acceptance": _acceptance, "errors": _errors, "latency": _latency, "scores": _scores}
