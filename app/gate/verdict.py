"""From figures to verdict: pure rules. The worst outcome decides, and no data is never a pass."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.gate.criteria import Criterion, Gate, SliceMode
from app.gate.report import CriterionResult, Outcome, Verdict

# A figure exactly at its bar passes, also where 0.93 - 0.01 is 0.9200000000000000x.
TOLERANCE = 1e-12

WORST_FIRST: tuple[Outcome, ...] = ("fail", "inconclusive", "pass", "not_applicable")

Figure = float | str  # a number, or why there is none
Rule = SliceMode  # a gate's own modes are two of them


@dataclass(frozen=True)
class Shortage:
    """Too few rows to judge by: what that means here, and how few they are."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Evidence:
    """One metric as found on n rows (or timed batches). `incumbent` None: no version was ever active.

    `interval` is that of candidate minus incumbent, None where there is none; where `together` is more than one, it is
    as wide as so many of them ask for that are to be right all at once.
    """

    candidate: Figure
    incumbent: Figure | None
    interval: tuple[float, float] | None
    n: int
    few: Shortage | None = None
    together: int = 1

    @property
    def delta(self) -> float | None:
        if isinstance(self.candidate, float) and isinstance(self.incumbent, float):
            return self.candidate - self.incumbent
        return None


def criterion_result(
    name: str, criterion: Criterion, evidence: Evidence, mode: Rule, *, slice: str | None = None
) -> CriterionResult:
    """Judges one criterion: the worst of its bounds decides, and its reason is given."""
    outcomes = list(_outcomes(criterion, evidence, mode))
    worst = min((outcome for outcome, _ in outcomes), key=WORST_FIRST.index)
    return CriterionResult(
        name=name,
        slice=slice,
        verdict=worst,
        candidate=_number(evidence.candidate),
        incumbent=_number(evidence.incumbent),
        delta=evidence.delta,
        requirement=requirement(criterion),
        n=evidence.n,
        interval=evidence.interval,
        reason=", and ".join(reason for outcome, reason in outcomes if outcome == worst),
    )


def overall(
    results: Sequence[CriterionResult],
    rows: int,
    rows_per_class: Mapping[str, int],
    gate: Gate,
    *,
    unknown: str | None = None,
) -> tuple[Verdict, str]:
    """The verdict and what decided, as a sentence. Too few rows: inconclusive, whatever was measured.

    `unknown` says which rows nobody knows to be unseen: nothing passes on those where the gate requires to know.
    """
    if few := _too_few(rows, rows_per_class, gate):
        return "inconclusive", few
    if not results:
        return "inconclusive", "The definition names no criterion, so nothing was judged."
    if deciding := [r for r in results if r.verdict == "fail"]:
        return "fail", _sentence(deciding)
    if unknown and gate.leak_check == "required":
        return "inconclusive", f"Rows that were trained on may be among those that judge: {unknown}."
    if deciding := [r for r in results if r.verdict == "inconclusive"]:
        return "inconclusive", _sentence(deciding)
    return "pass", _all_met(results)


def _all_met(results: Sequence[CriterionResult]) -> str:
    judged = [r for r in results if r.verdict == "pass"]
    if not judged:
        return "No version was ever active, and nothing is asked but to compare with one."
    names = [r.name for r in judged if r.slice is None]
    if sliced := len({r.slice for r in judged} - {None}):
        names.append(f"and those of {sliced} {'slice' if sliced == 1 else 'slices'}")
    return f"Every criterion that applies is met: {', '.join(names)}."


def requirement(criterion: Criterion) -> str:
    """The criterion as people read it: `>= 0.85`, `>= incumbent - 0.01`, or several joined by `and`."""
    bounds = {
        ">= {:g}": criterion.min,
        "<= {:g}": criterion.max,
        ">= incumbent - {:g}": criterion.max_drop,
        "<= incumbent + {:g}": criterion.max_rise,
    }
    return " and ".join(text.format(bound) for text, bound in bounds.items() if bound is not None)


def _outcomes(criterion: Criterion, evidence: Evidence, mode: Rule) -> Iterator[tuple[Outcome, str]]:
    if evidence.few:
        yield evidence.few.outcome, evidence.few.reason
        return
    value = evidence.candidate
    if isinstance(value, str):
        yield "inconclusive", value
        return
    if criterion.min is not None:
        yield _bounded(value, criterion.min, value >= criterion.min - TOLERANCE, "at least", "below")
    if criterion.max is not None:
        yield _bounded(value, criterion.max, value <= criterion.max + TOLERANCE, "at most", "above")
    if criterion.max_drop is not None:
        yield _compared(evidence, criterion.max_drop, -1, mode)
    if criterion.max_rise is not None:
        yield _compared(evidence, criterion.max_rise, +1, mode)


def _bounded(value: float, bound: float, met: bool, within: str, beyond: str) -> tuple[Outcome, str]:
    return ("pass" if met else "fail"), f"{value:.6g} is {within if met else beyond} {bound:g}"


def _compared(evidence: Evidence, allowed: float, worse: int, mode: Rule) -> tuple[Outcome, str]:
    """`worse` is the sign of a change for the worse: -1 where a drop is bounded, +1 where a rise is."""
    if evidence.incumbent is None:
        return "not_applicable", "no version was ever active, so there is nothing to compare with"
    if isinstance(evidence.incumbent, str):
        return "inconclusive", evidence.incumbent
    assert evidence.delta is not None
    found = f"{evidence.candidate:.6g} against the incumbent's {evidence.incumbent:.6g} ({evidence.delta:+.6g})"
    beyond = worse * evidence.delta > allowed + TOLERANCE
    if mode == "loss_shown" and beyond:
        return _shown(found, evidence, allowed, worse)
    if beyond:
        return "fail", f"{found} is a loss beyond {allowed:g}"
    if mode != "confident":
        return "pass", found
    return _confident(found, evidence.interval, allowed, worse)


def _confident(found: str, interval: tuple[float, float] | None, allowed: float, worse: int) -> tuple[Outcome, str]:
    if interval is None:
        return "inconclusive", f"{found} has no interval to be confident by: bound it with min or max instead"
    low, high = interval
    span = f"the interval of the difference, {low:+.4g} to {high:+.4g},"
    if max(worse * low, worse * high) > allowed + TOLERANCE:
        wide = f"is {high - low:.4g} wide and does not exclude a loss beyond {allowed:g}: more rows are needed"
        return "inconclusive", f"{found}, but {span} {wide}"
    return "pass", f"{found}, and {span} excludes a loss beyond {allowed:g}"


def _shown(found: str, evidence: Evidence, allowed: float, worse: int) -> tuple[Outcome, str]:
    """Of a loss beyond what is allowed: it counts where the interval excludes that there is none."""
    if evidence.interval is None:
        return "inconclusive", f"{found} has no interval that could show the loss"
    low, high = evidence.interval
    span = f"the interval of the difference, {low:+.4g} to {high:+.4g}"
    if evidence.together > 1:
        span = f"{span} (wide enough for {evidence.together} comparisons at once)"
    if min(worse * low, worse * high) > TOLERANCE:
        return "fail", f"{found} is a loss beyond {allowed:g}, and {span}, leaves no room for chance"
    return "pass", f"{found} is a loss beyond {allowed:g} that chance explains: {span}, holds 0"


def _too_few(rows: int, rows_per_class: Mapping[str, int], gate: Gate) -> str | None:
    if rows < gate.min_rows:
        return f"The holdout has {rows} rows, and the gate asks for at least {gate.min_rows}."
    few = {label: n for label, n in rows_per_class.items() if n < gate.min_rows_per_class}
    if few:
        named = ", ".join(f"{n} of {label}" for label, n in few.items())
        return f"The holdout has {named}, and the gate asks for {gate.min_rows_per_class} rows of each label."
    return None


def _sentence(deciding: Sequence[CriterionResult]) -> str:
    """Criteria that share a reason, such as an incumbent that cannot read the rows, share its telling."""
    names: dict[str, list[str]] = {}
    for result in deciding:
        names.setdefault(result.reason, []).append(result.name)
    return "; ".join(f"{', '.join(sharing)}: {reason}" for reason, sharing in names.items()) + "."


def _number(figure: Figure | None) -> float | None:
    return figure if isinstance(figure, float) else None
