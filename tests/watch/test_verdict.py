"""What a version is held to, and when it is established that it does not hold."""

from typing import Any

import pytest

from app.definitions.watching import WatchOptions
from app.watch.promise import promise
from app.watch.verdict import look

# Of 1,000 rows of each label 900 are right: precision, recall and F1 are .9.
GATE = [
    {"label": "no", "actual": 1_000, "given": 1_000, "hits": 900},
    {"label": "yes", "actual": 1_000, "given": 1_000, "hits": 900},
]
PROFILE = {"heads": {"y": {"scores": {"edges": [0.25, 0.5, 0.75], "counts": [400, 100, 100, 400]}}}}


def held_to(before: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return promise(WatchOptions(**options), {"y": GATE}, 1.0, PROFILE, before or {})


def numbers(**seen: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"standings": {}, "scores": {}} | dict.fromkeys(
        ("requests", "errors", "slow", "accepted", "rejected"), 0
    )
    return nothing | seen


def standing(rows: int, hits: int) -> dict[str, Any]:
    return {"y": [{"label": label, "actual": rows, "given": rows, "hits": hits} for label in ("no", "yes")]}


def established(promised: dict[str, Any], **seen: Any) -> set[str]:
    return {name for name, each in look(promised, numbers(**seen)).items() if each.is_established}


def test_without_data_nothing_is_established_and_nothing_seen() -> None:
    found = look(held_to(), numbers())
    assert found.keys() == {"f1:y", "errors", "latency", "scores:y"}
    assert all(each.n == 0 and each.evidence is None and not each.is_established for each in found.values())


def test_a_version_as_good_as_the_gate_measured_is_left_alone() -> None:
    assert established(held_to(), standings=standing(20_000, 18_000), requests=20_000) == set()


def test_a_drop_of_f1_is_established_by_enough_labels_and_not_by_a_few() -> None:
    assert established(held_to(), standings=standing(50, 40)) == set()
    assert established(held_to(), standings=standing(5_000, 4_000)) == {"f1:y"}


def test_where_the_version_before_did_as_badly_going_back_would_not_help() -> None:
    assert (
        established(held_to({"f1": {"y": 0.79}, "f1_of": {"y": {"yes": 0.79}}}), standings=standing(5_000, 4_000))
        == set()
    )


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ("errors", {"requests": 1_000, "errors": 5}, {"requests": 1_000, "errors": 60}),
        ("latency", {"requests": 1_000, "slow": 20}, {"requests": 1_000, "slow": 200}),
        ("acceptance", {"accepted": 620, "rejected": 380}, {"accepted": 300, "rejected": 700}),
        ("scores:y", {"scores": {"y": [410, 90, 110, 390]}}, {"scores": {"y": [10, 10, 30, 950]}}),
    ],
)
def test_each_check_leaves_the_good_alone_and_finds_the_bad(check: str, good: Any, bad: Any) -> None:
    promised = held_to({"acceptance": (6_500, 10_000)})
    assert established(promised, **good) == set()
    assert established(promised, **bad) == {check}


def test_what_the_definition_drops_is_not_watched() -> None:
    dropped = dict.fromkeys(("max_f1_drop", "max_error_rise", "max_slow_share", "max_score_shift"))
    assert held_to(**dropped) == {}


def test_slow_is_what_the_gate_called_slow_or_five_times_as_slow_as_before() -> None:
    assert held_to()["latency"]["seconds"] == 1.0
    assert held_to({"p99": 0.02})["latency"]["seconds"] == pytest.approx(0.1)
    assert held_to({"p99": 0.001})["latency"]["seconds"] == 0.05
    assert held_to({"p99": 0.001}, slow_seconds=0.5)["latency"]["seconds"] == 0.5


def test_all_parts_together_are_no_more_than_the_declared_share_of_false_alarms() -> None:
    promised = held_to({"acceptance": (6_500, 10_000)})
    assert sum(check["false_alarms"] for check in promised.values()) <= WatchOptions().false_alarms + 1e-12


def test_a_drop_over_all_of_many_labels_is_found_long_before_it_is_in_any_one_of_them() -> None:
    gate = [{"label": str(i), "actual": 100, "given": 100, "hits": 90} for i in range(50)]
    seen = [{"label": str(i), "actual": 20, "given": 20, "hits": 16} for i in range(50)]
    promised = promise(WatchOptions(), {"y": gate}, None, {}, {})
    assert established(promised, standings={"y": seen}) == {"f1:y"}


def test_the_reason_has_the_figures() -> None:
    found = look(held_to(), numbers(standings=standing(5_000, 4_000)))["f1:y"]
    assert "F1 of y is 0.8000 of 10000 labels" in found.reason
    assert "the gate measured 0.9000" in found.reason


def test_few_answers_of_the_version_before_promise_less() -> None:
    few, many = (held_to({"acceptance": (n * 7 // 10, n), "errors": (n // 20, n)}) for n in (100, 100_000))
    assert few["acceptance"]["limit"] < many["acceptance"]["limit"] < 0.6
    assert few["errors"]["limit"] > many["errors"]["limit"] > 0.06


def test_each_label_is_asked_for_no_more_than_it_had_before() -> None:
    gate = [{"label": label, "actual": 1_000, "given": 1_000, "hits": 900} for label in "abc"]
    before = {"f1": {"y": 0.73}, "f1_of": {"y": {"a": 0.95, "b": 0.95, "c": 0.3}}}
    limits = promise(WatchOptions(), {"y": gate}, None, {}, before)["f1:y"]["limits"]
    assert limits["a"] == limits["b"] > 0.8
    assert limits["c"] == pytest.approx(0.29)
