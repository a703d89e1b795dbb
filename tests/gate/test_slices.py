"""A gain on average hides no loss on a group; and a group's bad luck is not taken for a loss."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.gate import GateReport, Seen, judge
from app.gate.criteria import Criterion, Gate, Slice
from app.gate.slices import Unsliceable, groups_of
from tests.gate.test_judge import TwoHeads, Version, with_urgency

REGIONS = ("north", "south", "east", "west")


def holdout(wrong: dict[str, dict[str, float]], n: int = 4_000, **columns: Any) -> pa.Table:
    """Scores of versions that get that share of a region's rows wrong; four regions of 1,000 rows each."""
    rng = np.random.default_rng(5)
    truth, regions = rng.random(n) < 0.4, np.array(REGIONS)[np.arange(n) % 4]
    luck = rng.random(n)
    scores = {
        name: np.where(luck < [shares.get(region, 0.10) for region in regions], ~truth, truth) * 0.8
        + 0.1
        + rng.random(n) / 100
        for name, shares in wrong.items()
    }
    return pa.table(scores | {"is_fraud": truth, "region": regions} | columns)


def judged(table: pa.Table, *slices: Slice, mode: Any = "point", **gate: Any) -> GateReport:
    nothing = np.zeros(len(table), np.bool_)
    return judge(
        Version("new"),
        Version("old"),
        7,
        table,
        Gate(slices=list(slices), criteria={"precision": None, "recall": None} | gate),
        mode=mode,
        data_version="d1",
        seed=1,
        seen=Seen(nothing, nothing),
    )


def of_slices(report: GateReport) -> dict[str, str]:
    return {c.name: c.verdict for c in report.criteria if c.slice}


def slice_of(column: str = "region", **changes: Any) -> Slice:
    return Slice(column=column, criteria={"f1": Criterion(max_drop=0.02)}, **changes)


WORSE_IN_THE_NORTH = {"old": {}, "new": {"north": 0.25, "south": 0.02, "east": 0.02, "west": 0.02}}


@pytest.mark.parametrize("mode", ["point", "confident"])
def test_a_gain_on_average_hides_no_loss_on_a_group(mode: str) -> None:
    table = holdout(WORSE_IN_THE_NORTH)
    assert judged(table, mode=mode).verdict == "pass"
    found = judged(table, slice_of(), mode=mode)
    assert found.verdict == "fail"
    assert of_slices(found) == {f"f1[region={r}]": "fail" if r == "north" else "pass" for r in sorted(REGIONS)}
    assert found.reason.startswith("f1[region=north]: 0.")
    [north] = [c for c in found.criteria if c.slice == "region=north"]
    assert (north.n, north.requirement) == (1_000, ">= incumbent - 0.02")
    assert north.interval is not None
    assert north.interval[1] < 0


def test_twenty_groups_of_an_equal_candidate_are_not_refused_for_their_number() -> None:
    """Figures alone refuse it for what chance does in one group or another."""
    rng = np.random.default_rng(11)
    truth, n = rng.random(2_000) < 0.4, 2_000
    scores = {who: np.where(rng.random(n) < 0.1, ~truth, truth) * 0.8 + 0.1 for who in ("old", "new")}
    table = pa.table(scores | {"is_fraud": truth, "shop": rng.integers(20, size=n).astype(str)})
    free = {"f1": None, "auc_roc": None}
    to_the_letter = judged(table, slice_of("shop", mode="point"), **free)
    shown = judged(table, slice_of("shop"), **free)
    assert "fail" in of_slices(to_the_letter).values()
    assert set(of_slices(shown).values()) == {"pass"}
    assert "that chance explains" in " ".join(c.reason for c in shown.criteria)
    assert "(wide enough for 20 comparisons at once)" in " ".join(c.reason for c in shown.criteria)


def test_a_confident_slice_is_inconclusive_until_its_rows_exclude_a_loss() -> None:
    table = holdout({"old": {}, "new": {"north": 0.113}})
    found = of_slices(judged(table, slice_of(mode="confident")))
    assert found["f1[region=north]"] == "inconclusive"
    assert found["f1[region=south]"] == "pass"


def test_intervals_of_many_slices_are_wider_than_of_one() -> None:
    table = holdout(WORSE_IN_THE_NORTH)
    one = pa.array([region if region == "north" else None for region in table["region"].to_pylist()])
    alone = judged(table.append_column("only", one), slice_of("only", min_rows=1_000))
    among = judged(table, slice_of())
    widths = [
        next(c.interval[1] - c.interval[0] for c in found.criteria if (c.slice or "").endswith("=north") and c.interval)
        for found in (alone, among)
    ]
    assert widths[0] < widths[1] < 1.5 * widths[0]


@pytest.mark.parametrize(("too_few", "verdict"), [("ignore", "not_applicable"), ("inconclusive", "inconclusive")])
def test_a_group_with_too_few_rows_is_told_and_judged_as_declared(too_few: Any, verdict: str) -> None:
    shops = pa.array(np.where(np.arange(4_000) < 29, "kiosk", "hall"))
    found = judged(holdout({"old": {}, "new": {}}, shop=shops), slice_of("shop", too_few=too_few))
    assert of_slices(found)["f1[shop=kiosk]"] == verdict
    assert found.verdict == ("pass" if too_few == "ignore" else "inconclusive")
    [kiosk] = [c for c in found.criteria if c.slice == "shop=kiosk"]
    assert (kiosk.n, kiosk.candidate, kiosk.reason) == (29, None, "29 rows, and 30 are asked for")


def test_a_group_without_rows_of_the_class_that_is_read_is_too_few() -> None:
    table = holdout({"old": {}, "new": {}})
    shops = pa.array(np.where(np.array(table["is_fraud"]), "hall", "kiosk"))
    found = judged(table.append_column("shop", shops), slice_of("shop"))
    assert of_slices(found) == {"f1[shop=hall]": "pass", "f1[shop=kiosk]": "not_applicable"}


def test_a_bound_of_its_own_is_asked_of_each_group_without_an_incumbent_too() -> None:
    table = holdout(WORSE_IN_THE_NORTH)
    floor = Slice(column="region", criteria={"recall": Criterion(min=0.8)})
    nothing = np.zeros(len(table), np.bool_)
    gate = Gate(slices=[floor], criteria={"precision": None, "recall": None})
    found = judge(
        Version("new"), None, None, table, gate, mode="point", data_version="d", seed=1, seen=Seen(nothing, None)
    )
    assert of_slices(found)["recall[region=north]"] == "fail"
    assert found.verdict == "fail"


def test_each_label_column_is_sliced_by_its_own_criteria() -> None:
    table = with_urgency()
    table = table.append_column("half", pa.array(["a", "b"] * 500))
    slices = [Slice(column="half", criteria={"is_urgent.recall": Criterion(min=0.1), "f1": Criterion(max_drop=0.5)})]
    nothing = np.zeros(len(table), np.bool_)
    found = judge(
        TwoHeads("good"), TwoHeads("fair"), 7, table, Gate(slices=slices), mode="point", data_version="d", seed=1,
        seen=Seen(nothing, nothing),
    )  # fmt: skip
    assert of_slices(found).keys() == {
        *(f"{head}.f1[half={half}]" for head in ("is_fraud", "is_urgent") for half in "ab"),
        *(f"is_urgent.recall[half={half}]" for half in "ab"),
    }


def names(column: Any, at_most: int = 20) -> list[str]:
    return [group.name for group in groups_of(pa.table({"x": column}), "x", at_most)]


def test_the_most_frequent_values_are_groups_and_the_rest_is_one() -> None:
    column = ["b"] * 3 + ["a"] * 3 + ["c"] * 2 + ["d", "e"] + [None] * 4
    groups = groups_of(pa.table({"x": column}), "x", 3)
    assert [(g.name, len(g.rows)) for g in groups] == [
        ("x=a", 3),
        ("x=b", 3),
        ("x=c", 2),
        ("x=(other)", 2),
        ("x=(missing)", 4),
    ]
    assert sorted(np.concatenate([g.rows for g in groups]).tolist()) == list(range(14))


def test_few_numbers_are_values_and_many_are_cut_at_their_quartiles() -> None:
    assert names(pa.array([1.0, 2.5, None, float("nan")])) == ["x=1", "x=2.5", "x=(missing)"]
    assert names(pa.array([True, False, True])) == ["x=true", "x=false"]
    assert names(pa.array(range(100))) == ["x<24.75", "24.75<=x<49.5", "49.5<=x<74.25", "x>=74.25"]
    mostly_zero = pa.array([0] * 80 + list(range(1, 41)))
    assert names(mostly_zero) == ["0<=x<10.25", "x>=10.25"]


def test_a_column_that_is_not_there_or_cuts_nothing_is_inconclusive_and_named() -> None:
    with pytest.raises(Unsliceable, match="no column shop"):
        groups_of(holdout({"old": {}}), "shop", 20)
    found = judged(holdout({"old": {}, "new": {}}), slice_of("shop"))
    assert found.verdict == "inconclusive"
    assert found.reason == "f1[shop]: the holdout has no column shop."
    times = pa.array(np.arange(4_000), pa.timestamp("s"))
    found = judged(holdout({"old": {}, "new": {}}, at=times), slice_of("at"))
    assert "slices are of numbers or names" in found.reason
