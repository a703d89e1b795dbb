"""The rules of the verdict: a table of every case, and what must hold for all figures."""

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gate.criteria import DEFAULT_CRITERIA, Criterion, Gate, Mode
from app.gate.report import CriterionResult, Outcome, Verdict
from app.gate.verdict import Evidence, Figure, criterion_result, overall, requirement

ENOUGH = {"ok": 900, "fraud": 100}
FEW_ROWS = {"ok": 20, "fraud": 20}
FEW_OF_A_CLASS = {"ok": 997, "fraud": 3}

shares = st.floats(0, 1)
spans = st.none() | st.tuples(shares, shares).map(lambda ends: (min(ends) - 0.5, max(ends) - 0.5))


@st.composite
def criteria(draw: st.DrawFn) -> Criterion:
    names = draw(st.sets(st.sampled_from(["min", "max", "max_drop", "max_rise"]), min_size=1))
    bounds = {name: draw(shares) for name in names}
    if {"min", "max"} <= names:
        bounds["min"], bounds["max"] = sorted((bounds["min"], bounds["max"]))
    return Criterion(**bounds)


def evidence(
    candidate: Figure, incumbent: Figure | None = None, interval: tuple[float, float] | None = None
) -> Evidence:
    return Evidence(candidate, incumbent, interval, n=1_000)


def judged(criterion: Criterion, found: Evidence, mode: Mode = "point") -> Outcome:
    return criterion_result("f1", criterion, found, mode).verdict


def results(*outcomes: Outcome) -> list[CriterionResult]:
    """One result of each outcome, come by as a gate would."""
    made: dict[Outcome, tuple[Criterion, Evidence]] = {
        "pass": (Criterion(min=0.5), evidence(0.9)),
        "fail": (Criterion(min=0.5), evidence(0.1)),
        "inconclusive": (Criterion(min=0.5), evidence("there is no figure")),
        "not_applicable": (Criterion(max_drop=0.01), evidence(0.9)),
    }
    return [criterion_result(f"m{i}", *made[outcome], "point") for i, outcome in enumerate(outcomes)]


def decided(outcomes: tuple[Outcome, ...], rows_per_class: dict[str, int]) -> Verdict:
    return overall(results(*outcomes), sum(rows_per_class.values()), rows_per_class, Gate())[0]


# One criterion, exhaustively


@pytest.mark.parametrize(
    ("value", "expected"), [(0.85, "pass"), (0.85 - 1e-13, "pass"), (0.85 - 1e-9, "fail"), (0.9, "pass")]
)
def test_a_minimum_is_met_exactly_at_the_bar(value: float, expected: Outcome) -> None:
    assert judged(Criterion(min=0.85), evidence(value)) == expected
    assert judged(Criterion(max=-0.85), evidence(-value)) == expected


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [(0.93, "pass"), (0.92, "pass"), (0.92 - 1e-9, "fail"), (0.99, "pass"), (0.5, "fail")],
)
def test_a_drop_is_allowed_exactly_to_its_margin(candidate: float, expected: Outcome) -> None:
    assert judged(Criterion(max_drop=0.01), evidence(candidate, 0.93)) == expected
    assert judged(Criterion(max_rise=0.01), evidence(-candidate, -0.93)) == expected


CANDIDATES: dict[str, Figure] = {"better": 0.95, "worse": 0.5, "unmeasurable": "it has no figure"}
INCUMBENTS: dict[str, Figure | None] = {
    "measured": 0.93,
    "unreadable": "cannot read the rows",
    "none ever": None,
}
INTERVALS = {"sure": (-0.005, 0.05), "unsure": (-0.02, 0.05), "without": None}


def expected_of_a_comparison(candidate: str, incumbent: str, interval: str, mode: Mode) -> Outcome:
    if candidate == "unmeasurable":
        return "inconclusive"
    if incumbent != "measured":
        return "inconclusive" if incumbent == "unreadable" else "not_applicable"
    if candidate == "worse":
        return "fail"
    return "pass" if mode == "point" or interval == "sure" else "inconclusive"


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("incumbent", INCUMBENTS)
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_comparison_in_every_case(candidate: str, incumbent: str, interval: str, mode: Mode) -> None:
    found = evidence(CANDIDATES[candidate], INCUMBENTS[incumbent], INTERVALS[interval])
    expected = expected_of_a_comparison(candidate, incumbent, interval, mode)
    assert judged(Criterion(max_drop=0.01), found, mode) == expected


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("incumbent", INCUMBENTS)
def test_an_absolute_bound_asks_nothing_of_the_incumbent(incumbent: str, mode: Mode) -> None:
    for candidate, expected in {"better": "pass", "worse": "fail", "unmeasurable": "inconclusive"}.items():
        found = evidence(CANDIDATES[candidate], INCUMBENTS[incumbent])
        assert judged(Criterion(min=0.85), found, mode) == expected


def test_the_worst_of_several_bounds_decides() -> None:
    both = Criterion(min=0.85, max_drop=0.01)
    assert judged(both, evidence(0.95)) == "pass"  # the comparison does not apply, the bound is met
    assert judged(both, evidence(0.80)) == "fail"
    assert judged(both, evidence(0.86, 0.93)) == "fail"
    assert judged(both, evidence(0.95, "cannot read the rows")) == "inconclusive"
    assert judged(both, evidence(0.80, "cannot read the rows")) == "fail"


def test_a_rise_is_excluded_by_the_upper_end_of_the_interval() -> None:
    log_loss = Criterion(max_rise=0.01)
    assert judged(log_loss, evidence(0.3, 0.3, (-0.5, 0.005)), "confident") == "pass"
    assert judged(log_loss, evidence(0.3, 0.3, (-0.005, 0.5)), "confident") == "inconclusive"


def test_an_unsure_comparison_says_how_wide_it_is_and_asks_for_rows() -> None:
    found = criterion_result("f1", Criterion(max_drop=0.01), evidence(0.94, 0.93, (-0.02, 0.03)), "confident")
    assert "0.05 wide" in found.reason
    assert "more rows are needed" in found.reason


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (DEFAULT_CRITERIA["f1"], ">= incumbent - 0.01"),
        (DEFAULT_CRITERIA["auc_roc"], ">= incumbent - 0.005"),
        (DEFAULT_CRITERIA["precision"], ">= 0.85"),
        (DEFAULT_CRITERIA["latency_p99_seconds"], "<= 1"),
        (Criterion(min=0.8, max_drop=0), ">= 0.8 and >= incumbent - 0"),
        (Criterion(max_rise=0.05), "<= incumbent + 0.05"),
    ],
)
def test_a_requirement_reads_like_the_runbook(criterion: Criterion, text: str) -> None:
    assert requirement(criterion) == text


# The verdict, exhaustively


@pytest.mark.parametrize("outcomes", list(itertools.product(get_args(Outcome), repeat=3)))
def test_with_enough_rows_the_worst_criterion_decides(outcomes: tuple[Outcome, ...]) -> None:
    expected = next((worst for worst in ("fail", "inconclusive") if worst in outcomes), "pass")
    assert decided(outcomes, ENOUGH) == expected


@pytest.mark.parametrize("rows_per_class", [FEW_ROWS, FEW_OF_A_CLASS, {"ok": 1_000, "fraud": 0}])
@pytest.mark.parametrize("outcomes", list(itertools.product(get_args(Outcome), repeat=2)))
def test_with_too_few_rows_nothing_is_decided(outcomes: tuple[Outcome, ...], rows_per_class: dict[str, int]) -> None:
    assert decided(outcomes, rows_per_class) == "inconclusive"


def test_exactly_enough_rows_are_enough() -> None:
    assert decided(("pass",), {"ok": 40, "fraud": 10}) == "pass"
    assert decided(("pass",), {"ok": 39, "fraud": 10}) == "inconclusive"
    assert decided(("pass",), {"ok": 41, "fraud": 9}) == "inconclusive"


def test_a_gate_without_criteria_proves_nothing() -> None:
    assert decided((), ENOUGH) == "inconclusive"


def test_the_reason_names_what_decided_and_nothing_else() -> None:
    _, reason = overall(results("pass", "fail", "inconclusive"), 1_000, ENOUGH, Gate())
    assert reason == "m1: 0.1 is below 0.5."


def test_criteria_that_share_a_reason_share_its_telling() -> None:
    _, reason = overall(results("inconclusive", "inconclusive"), 1_000, ENOUGH, Gate())
    assert reason == "m0, m1: there is no figure."


def test_too_few_rows_are_named_with_their_class() -> None:
    assert overall(results("pass"), 40, FEW_ROWS, Gate())[1] == (
        "The holdout has 40 rows, and the gate asks for at least 50."
    )
    assert overall(results("pass"), 1_000, FEW_OF_A_CLASS, Gate())[1] == (
        "The holdout has 3 of fraud, and the gate asks for 10 rows of each label."
    )


# For all figures


@given(criterion=criteria(), candidate=shares, better=shares, incumbent=st.none() | shares)
def test_a_better_candidate_never_turns_a_pass_into_a_fail(
    criterion: Criterion, candidate: float, better: float, incumbent: float | None
) -> None:
    asked_upwards = Criterion(min=criterion.min or 0, max_drop=criterion.max_drop)
    worse, better = sorted((candidate, better))
    if judged(asked_upwards, evidence(worse, incumbent)) != "fail":
        assert judged(asked_upwards, evidence(better, incumbent)) != "fail"


@given(criterion=criteria(), incumbent=st.none() | shares | st.just("unreadable"), interval=spans)
def test_no_figure_is_never_a_pass(
    criterion: Criterion, incumbent: Figure | None, interval: tuple[float, float] | None
) -> None:
    for mode in get_args(Mode):
        assert judged(criterion, evidence("no figure", incumbent, interval), mode) == "inconclusive"


@given(criterion=criteria(), candidate=shares, incumbent=st.none() | shares, interval=spans)
def test_confident_passes_nothing_that_point_does_not(
    criterion: Criterion, candidate: float, incumbent: float | None, interval: tuple[float, float] | None
) -> None:
    found = evidence(candidate, incumbent, interval)
    point, confident = judged(criterion, found, "point"), judged(criterion, found, "confident")
    assert confident in ({point, "inconclusive"} if point == "pass" else {point})


@given(outcomes=st.lists(st.sampled_from(get_args(Outcome)), max_size=6), data=st.data())
def test_the_order_of_the_criteria_changes_nothing(outcomes: list[Outcome], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(outcomes))
    assert decided(tuple(outcomes), ENOUGH) == decided(tuple(shuffled), ENOUGH)
