"""What each kind of monitor decides, on which numbers."""

from typing import Any

import pytest

from app.definitions.schemas import Definition
from app.monitoring import monitors
from app.monitoring.monitors import State
from app.monitoring.psi import Shift

BODY: dict[str, Any] = {"type": "classifier", "data": {"source": "samples", "label": "y", "key": "id"}}


def judged(kind: str, numbers: dict[str, Any], **options: Any) -> State:
    found = monitors.find(kind)
    return found.judge(monitors.options_of({"kind": kind} | options), numbers).state


def standing(labels: int, f1: float) -> dict[str, Any]:
    hits = round(labels * f1)
    return {"labels": labels, "f1": f1, "hits": hits, "misses": 2 * (labels - hits), "right": hits, "accuracy": f1}


@pytest.mark.parametrize(
    ("labels", "f1", "state"),
    [
        (9, 0.5, State.UNKNOWN),
        (1_000, 0.90, State.OK),
        (1_000, 0.86, State.OK),  # .04 below: within the runbook's .05
        (1_000, 0.80, State.BREACHED),
        (1_000, 0.84, State.PENDING),  # .06 below, of which a part may be chance
        (20, 0.84, State.PENDING),  # .06 below, and so few labels could show that by chance
    ],
)
def test_accuracy_is_breached_by_a_drop_that_labels_establish(labels: int, f1: float, state: State) -> None:
    assert judged("accuracy", standing(labels, f1) | {"baseline": 0.90}, min_labels=10) == state


def test_without_a_baseline_nothing_is_said_of_accuracy() -> None:
    assert judged("accuracy", standing(1_000, 0.5) | {"baseline": None}) == State.UNKNOWN


def window(rows: int, excess: float, **columns: float) -> dict[str, Any]:
    told = {name: vars(Shift(each, each, 0.001)) for name, each in (columns or {"x": excess}).items()}
    return {"rows": rows, "aggregate": vars(Shift(excess, excess, 0.001)), "columns": told}


def windows(found: list[dict[str, Any]], *missing: str) -> dict[str, Any]:
    return {"windows": found, "missing": list(missing)}


@pytest.mark.parametrize(
    ("excesses", "state"),
    [
        ([0.1, 0.9, 0.9], State.OK),
        ([0.4, 0.1, 0.4], State.PENDING),
        ([0.4, 0.4, 0.1], State.PENDING),
        ([0.4, 0.4, 0.4], State.BREACHED),
    ],
)
def test_drift_wants_as_many_windows_in_a_row_as_declared(excesses: list[float], state: State) -> None:
    assert judged("drift", windows([window(1_000, each) for each in excesses])) == state


def test_silence_is_unknown_and_never_ok() -> None:
    assert judged("drift", windows([window(10, 0.0)] * 3)) == State.UNKNOWN
    assert judged("acceptance", {"cycles": 2, "rates": [0.9, 0.9], "mean": 0.9}) == State.UNKNOWN
    assert judged("metric", {"values": [], "average": None}, metric="bleu", min=0.3) == State.UNKNOWN


def test_drift_names_the_columns_that_moved_most() -> None:
    numbers = windows([window(1_000, 0.5, price=0.9, demand=0.1, day=0.6)] * 3)
    found = monitors.find("drift").judge(monitors.options_of({"kind": "drift"}), numbers)
    assert "(most: price 0.90, day 0.60, demand 0.10)" in found.reason


def test_a_column_that_the_version_does_not_know_is_named_and_never_ok() -> None:
    numbers = windows([window(1_000, 0.0)] * 3, "prise")
    found = monitors.find("drift").judge(monitors.options_of({"kind": "drift"}), numbers)
    assert (found.state, "prise" in found.reason) == (State.UNKNOWN, True)


def test_one_column_alone_breaches_where_a_limit_of_columns_is_declared() -> None:
    numbers = windows([window(1_000, 0.1, price=0.9, day=0.0)] * 3)
    assert judged("drift", numbers) == State.OK
    assert judged("drift", numbers, max_column_psi=0.5) == State.BREACHED


@pytest.mark.parametrize(("mean", "state"), [(0.59, State.BREACHED), (0.6, State.OK)])
def test_acceptance_is_the_runbooks(mean: float, state: State) -> None:
    assert judged("acceptance", {"cycles": 3, "rates": [mean] * 3, "mean": mean}) == state


def test_a_metric_is_bounded_from_both_sides() -> None:
    numbers = {"values": [{"at": "2026-01-01T00:00:00+00:00", "value": 0.4}], "average": 0.4}
    assert judged("metric", numbers, metric="bleu", min=0.5) == State.BREACHED
    assert judged("metric", numbers, metric="bleu", max=0.3) == State.BREACHED
    assert judged("metric", numbers, metric="bleu", min=0.3, max=0.5) == State.OK


def test_confidence_is_breached_by_a_steady_fall_and_not_by_noise() -> None:
    falling = [0.9, 0.89, 0.87, 0.86, 0.85, 0.84, 0.82, 0.8]
    restless = [0.9, 0.7, 0.91, 0.72, 0.9, 0.73, 0.92, 0.8]
    assert judged("confidence", {"means": falling}) == State.BREACHED
    assert judged("confidence", {"means": restless}) == State.PENDING
    assert judged("confidence", {"means": [0.9] * 8}) == State.OK
    assert judged("confidence", {"means": [*falling[:-1], None]}) == State.UNKNOWN


def test_a_version_may_have_thresholds_of_its_own() -> None:
    options = monitors.options_of({"kind": "acceptance", "versions": {"7": {"min": 0.4}}})
    assert [options.of_version(n).model_dump()["min"] for n in (7, 8)] == [0.4, 0.6]
    options = monitors.options_of({"kind": "metric", "metric": "bleu", "min": 0.3, "versions": {"7": {"max": 0.9}}})
    assert options.of_version(7).model_dump()["max"] == 0.9


BLEU = {"kind": "metric", "metric": "bleu", "min": 0.3}


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"x": {"kind": "psychic"}}, "monitors.x: kind is 'psychic'; a monitor is one of"),
        ({"x": {}}, "monitors.x: it names no kind"),
        ({"drift": {"max_psi": -1}}, "monitors.drift.max_psi: Input should be greater than 0"),
        ({"drift": {"max_pis": 1}}, "monitors.drift.max_pis: Extra inputs are not permitted"),
        ({"b": {"kind": "metric", "metric": "bleu"}}, "needs min or max"),
        ({"b": BLEU | {"min": 0.9, "max": 0.1}}, "min 0.9 is above max 0.1"),
        ({"b": BLEU | {"metric": "bad name"}}, "monitors.b.metric"),
        ({"b": BLEU | {"window": 1, "at_least": 5}}, "it would never judge"),
        ({"b": BLEU | {"half_life_minutes": 60}}, "half_life_minutes is for average: time_weighted"),
        ({"b": BLEU | {"average": "time_weighted", "half_life_minutes": 1e-300}}, "monitors.b.half_life_minutes"),
        ({"acceptance": {"window": 2}}, "it would never judge"),
        ({"drift": {"window_minutes": 0.5}}, "monitors.drift.window_minutes"),
        ({"drift": {"versions": {"2": {"kind": "metric"}}}}, "versions.2 cannot change kind"),
        ({"drift": {"versions": {"2": {"max_psi": 0}}}}, "versions: max_psi"),
    ],
)
def test_a_monitor_that_cannot_be_is_refused_by_its_name(declared: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        Definition.model_validate(BODY | {"monitors": declared})


def test_the_runbooks_monitors_are_there_unless_they_are_changed_or_dropped() -> None:
    bare = Definition.model_validate(BODY).watched
    assert {name: each.kind for name, each in bare.items()} == {
        "f1": "accuracy",
        "drift": "drift",
        "acceptance": "acceptance",
    }
    told = {"drift": {"max_psi": 0.2}, "acceptance": None, "new": {"kind": "data_version"}}
    other = Definition.model_validate(BODY | {"monitors": told}).watched
    assert other.keys() == {"f1", "drift", "new"}
    assert other["drift"].model_dump()["max_psi"] == 0.2
