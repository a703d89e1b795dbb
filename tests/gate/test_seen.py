"""Rows that a version was trained on say nothing of how good it is: they are left out, and counted."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.gate import Seen
from app.gate.criteria import Criterion, Slice
from tests.gate.test_judge import Version, holdout, outcomes, report

NOBODY = np.zeros(1_000, np.bool_)
FIRST_300 = np.arange(1_000) < 300


def memorised(name: str) -> pa.Table:
    """The first 300 rows are all right in that version's answers, as if it knew them by heart."""
    table = holdout()
    known = np.where(FIRST_300, np.array(table["is_fraud"]) * 0.8 + 0.1, np.array(table[name]))
    return table.set_column(table.column_names.index(name), name, pa.array(known))


def without_them(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(~FIRST_300))


def test_rows_that_the_incumbent_was_trained_on_compare_nothing_and_are_counted() -> None:
    """With them the incumbent, that knows them by heart, looks better than it is."""
    table = memorised("fair")
    criteria = {"f1": Criterion(max_drop=0.005)}
    found = report(Version("good"), Version("fair"), table=table, seen=Seen(NOBODY, FIRST_300), criteria=criteria)
    honest = report(Version("good"), Version("fair"), table=without_them(table), criteria=criteria)
    f1, plain = found.criteria[0], honest.criteria[0]
    assert (f1.incumbent, f1.candidate, f1.n) == (plain.incumbent, plain.candidate, 700)
    assert (found.excluded, found.leak_check, found.leak_reason) == ({"candidate": 0, "incumbent": 300}, "done", None)


def test_they_judge_the_candidate_all_the_same_where_nothing_is_compared() -> None:
    found = report(Version("good"), Version("fair"), seen=Seen(NOBODY, FIRST_300))
    rows = {c.name: c.n for c in found.criteria}
    assert (rows["f1"], rows["auc_roc"], rows["precision"], rows["recall"]) == (700, 700, 1_000, 1_000)
    assert found.rows == 1_000


def test_rows_that_the_candidate_was_trained_on_judge_nothing() -> None:
    """A candidate that fails on all rows it has not learnt by heart does not pass by those that it has."""
    table = memorised("bad")
    criteria: dict[str, Any] = {"f1": None, "auc_roc": None, "recall": Criterion(min=0.75)}
    assert outcomes(report(Version("bad"), Version("fair"), table=table, criteria=criteria))["recall"] == "pass"
    found = report(Version("bad"), Version("fair"), table=table, seen=Seen(FIRST_300, NOBODY), criteria=criteria)
    assert outcomes(found)["recall"] == "fail"
    assert (found.rows, found.excluded) == (700, {"candidate": 300, "incumbent": 0})


def test_slices_leave_them_out_too() -> None:
    table = holdout().append_column("half", pa.array(["a", "b"] * 500))
    slices = [Slice(column="half", criteria={"f1": Criterion(max_drop=0.1)})]
    found = report(Version("good"), Version("fair"), table=table, seen=Seen(NOBODY, FIRST_300), slices=slices)
    assert {c.name: c.n for c in found.criteria if c.slice} == {"f1[half=a]": 350, "f1[half=b]": 350}


@pytest.mark.parametrize("left", [0, 20])
def test_where_too_few_are_left_nothing_is_compared(left: int) -> None:
    seen = np.arange(1_000) >= left
    found = report(Version("good"), Version("bad"), seen=Seen(NOBODY, seen))
    assert found.verdict == "inconclusive"
    assert outcomes(found)["f1"] == "inconclusive"
    assert outcomes(found)["precision"] == "pass"
    assert report(Version("bad"), Version("good"), seen=Seen(NOBODY, seen)).verdict == "fail"  # by its own bounds
    assert report(Version("good"), Version("bad"), seen=Seen(seen, NOBODY)).verdict == "inconclusive"


def test_where_nobody_knows_who_saw_what_nothing_passes_in_silence() -> None:
    unknown = Seen(NOBODY, "data version abc cannot be read")
    found = report(Version("good"), Version("fair"), seen=unknown)
    assert (found.verdict, found.leak_check) == ("inconclusive", "unknown")
    assert found.excluded == {"candidate": 0, "incumbent": None}
    assert "which rows the incumbent was trained on (data version abc cannot be read)" in found.reason
    assert report(Version("bad"), Version("good"), seen=unknown).verdict == "fail"
    reported = report(Version("good"), Version("fair"), seen=unknown, leak_check="reported")
    assert (reported.verdict, reported.leak_check) == ("pass", "unknown")
    assert reported.leak_reason == found.leak_reason
