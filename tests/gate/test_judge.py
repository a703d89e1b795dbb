"""The gate as a whole, on versions whose answers are known."""

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.errors import Invalid
from app.gate import Gate, GateReport, Mode, Seen, comparison, judge
from app.gate.criteria import Criterion
from app.runtimes import Batch, Prediction, Predictor
from app.runtimes.schema import Column, Head, InputSchema, Label

LABELS: tuple[Label, ...] = (False, True)


class Version:
    """Answers with the column of its name as the score of the second label."""

    is_quick = True

    def __init__(self, column: str, labels: tuple[Label, ...] = LABELS) -> None:
        head = Head(name="is_fraud", labels=labels, threshold=0.5)
        self.schema = InputSchema(columns=(Column(name=column, kind="numeric"),), heads=(head,))

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        scores = batch.numeric[:, 0]
        return (Prediction(np.column_stack([1 - scores, scores]), scores, (scores >= 0.5).astype(np.int64)),)

    def smoke_inputs(self) -> list[Any]:
        return []


def holdout(n: int = 1_000, positives: int = 400) -> pa.Table:
    """Columns are the scores of versions that get 2%, 2.4%, 5% and 30% of the rows wrong."""
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([True, False], [positives, n - positives]))
    wrong = rng.random(n)
    columns = {
        name: np.where(wrong < share, ~truth, truth) * 0.8 + 0.1
        for name, share in {"good": 0.02, "near": 0.024, "fair": 0.05, "bad": 0.3}.items()
    }
    return pa.table(columns | {"is_fraud": truth})


def report(
    candidate: Predictor,
    incumbent: Predictor | None,
    *,
    number: int | None = 7,
    table: pa.Table | None = None,
    mode: Mode = "point",
    seen: Seen | None = None,
    **gate: Any,
) -> GateReport:
    rows = holdout() if table is None else table
    nothing = np.zeros(len(rows), np.bool_)
    who_saw = seen or Seen(nothing, None if number is None else nothing)
    return judge(candidate, incumbent, number, rows, Gate(**gate), mode=mode, data_version="d1", seed=1, seen=who_saw)


def outcomes(found: GateReport) -> dict[str, str]:
    return {c.name: c.verdict for c in found.criteria}


def test_a_better_candidate_passes_all_of_the_runbooks_criteria() -> None:
    found = report(Version("good"), Version("fair"), mode="confident")
    assert outcomes(found) == dict.fromkeys(["f1", "auc_roc", "precision", "recall", "latency_p99_seconds"], "pass")
    assert (found.verdict, found.incumbent, found.rows) == ("pass", 7, 1_000)
    assert [c.n for c in found.criteria] == [1_000, 1_000, 1_000, 1_000, 100]  # of latency, batches
    assert found.rows_per_class == {"false": 600, "true": 400}


def test_a_worse_candidate_fails_and_the_reason_names_the_figures() -> None:
    found = report(Version("bad"), Version("good"))
    assert found.verdict == "fail"
    assert set(outcomes(found).values()) == {"fail", "pass"}  # its latency is fine
    assert found.reason.startswith("f1: 0.")


def test_figures_of_both_come_from_the_same_rows() -> None:
    f1 = report(Version("good"), Version("good")).criteria[0]
    assert f1.candidate == f1.incumbent
    assert (f1.delta, f1.interval, f1.n) == (0.0, (0.0, 0.0), 1_000)


def test_a_difference_that_chance_explains_passes_point_and_not_confident() -> None:
    few = holdout(400, 160)
    assert report(Version("near"), Version("good"), table=few).verdict == "pass"
    unsure = report(Version("near"), Version("good"), table=few, mode="confident")
    assert unsure.verdict == "inconclusive"
    assert "more rows are needed" in unsure.reason


def test_the_first_version_is_judged_by_the_absolute_criteria_alone() -> None:
    first = report(Version("good"), None, number=None, mode="confident")
    assert first.verdict == "pass"
    assert outcomes(first)["f1"] == outcomes(first)["auc_roc"] == "not_applicable"
    assert report(Version("bad"), None, number=None).verdict == "fail"


@pytest.mark.parametrize(
    ("incumbent", "why"),
    [
        (None, "the incumbent, version 7, cannot be loaded"),
        (
            Version("age"),
            "the incumbent, version 7, cannot be measured: The rows do not fit the model: column 'age'",
        ),
        (Version("good", (False, "maybe")), "it does not know these labels of the candidate: true"),
    ],
)
def test_an_incumbent_that_cannot_be_measured_is_never_a_pass(incumbent: Predictor | None, why: str) -> None:
    found = report(Version("good"), incumbent)
    assert found.verdict == "inconclusive"
    assert outcomes(found)["f1"] == outcomes(found)["auc_roc"] == "inconclusive"
    assert outcomes(found)["precision"] == "pass"
    assert found.reason.startswith("f1, auc_roc: the incumbent, version 7, cannot be ")
    assert why in found.reason


def test_a_candidate_that_fails_an_absolute_bound_fails_without_a_readable_incumbent() -> None:
    assert report(Version("bad"), Version("age")).verdict == "fail"


def test_an_incumbent_with_other_columns_and_labels_turned_round_is_judged_alike() -> None:
    table = holdout()
    table = table.append_column("turned", pa.array(1 - table.column("fair").to_numpy()))
    found = report(Version("good"), Version("turned", (True, False)), table=table)
    plain = report(Version("good"), Version("fair"), table=table)
    for mine, theirs in zip(found.criteria[:4], plain.criteria[:4], strict=True):
        assert mine.incumbent == pytest.approx(theirs.incumbent)


def test_a_label_that_the_candidate_does_not_know_makes_it_inconclusive() -> None:
    labels = pa.array(["no"] * 500 + ["yes"] * 400 + ["maybe"] * 100)
    table = pa.table({"good": np.linspace(0, 1, 1_000), "is_fraud": labels})
    found = report(Version("good", ("no", "yes")), Version("good", ("no", "yes")), table=table)
    assert found.verdict == "inconclusive"
    assert "the candidate does not know these labels of the holdout: maybe" in found.reason


def test_rows_without_a_label_are_left_out() -> None:
    table = holdout()
    known = [value if row % 4 else None for row, value in enumerate(table.column("is_fraud").to_pylist())]
    found = report(Version("good"), None, number=None, table=table.set_column(4, "is_fraud", pa.array(known)))
    assert (found.verdict, found.rows, sum(found.rows_per_class.values())) == ("pass", 750, 750)


@pytest.mark.parametrize("table", [holdout(40, 20), holdout(1_000, 4), holdout(1_000, 0), holdout(0, 0)])
def test_too_few_rows_are_never_a_pass_nor_a_fail(table: pa.Table) -> None:
    for version in ("good", "bad"):
        assert report(Version(version), Version("fair"), table=table).verdict == "inconclusive"
        assert report(Version(version), None, number=None, table=table).verdict == "inconclusive"


def test_a_metric_that_the_gate_does_not_know_is_inconclusive_and_the_known_ones_are_named() -> None:
    found = report(Version("good"), Version("fair"), criteria={"bleu": Criterion(min=0.3)})
    assert found.verdict == "inconclusive"
    assert "does not measure bleu; it knows f1, precision, recall" in found.reason


def test_a_criterion_set_to_null_is_not_judged_and_one_that_is_named_is() -> None:
    found = report(Version("good"), Version("fair"), criteria={"f1": None, "log_loss": Criterion(max_rise=0)})
    assert outcomes(found).keys() == {"auc_roc", "precision", "recall", "latency_p99_seconds", "log_loss"}


def test_latency_bound_to_the_incumbents_cannot_be_confident() -> None:
    criteria = {"latency_p99_seconds": Criterion(max_rise=0.5)}
    assert report(Version("good"), Version("fair"), criteria=criteria).verdict == "pass"
    found = report(Version("good"), Version("fair"), criteria=criteria, mode="confident")
    assert outcomes(found)["latency_p99_seconds"] == "inconclusive"


def test_a_report_survives_json_and_the_same_seed_repeats_it() -> None:
    found = report(Version("near"), Version("fair"))
    assert GateReport.model_validate_json(found.model_dump_json()) == found
    again = report(Version("near"), Version("fair"))
    assert again.criteria[:4] == found.criteria[:4]


def test_the_comparison_is_the_delta_against_production() -> None:
    found = comparison(report(Version("good"), Version("fair")))
    assert found.keys() == {"f1", "auc_roc", "precision", "recall", "latency_p99_seconds"}
    f1 = found["f1"]
    assert f1["candidate"] is not None
    assert f1["incumbent"] is not None
    assert f1["delta"] == f1["candidate"] - f1["incumbent"]


def test_a_table_without_the_label_column_is_refused() -> None:
    with pytest.raises(Invalid, match="no label column is_fraud"):
        report(Version("good"), None, table=holdout().drop_columns("is_fraud"))


class TwoHeads(Version):
    """Answers `is_fraud` with the column of its name, and `is_urgent` with the same."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        urgent = Head(name="is_urgent", labels=("no", "yes"), threshold=0.5)
        self.schema = self.schema.model_copy(update={"heads": (*self.schema.heads, urgent)})

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        return super().predict(batch) * 2


def with_urgency(share: float = 1.0) -> pa.Table:
    """Half of the rows that are fraud are urgent; only that share of the rows says so."""
    table = holdout()
    urgent = [
        ("yes" if fraud and row % 2 else "no") if row < share * 1_000 else None
        for row, fraud in enumerate(table.column("is_fraud").to_pylist())
    ]
    return table.append_column("is_urgent", pa.array(urgent))


def test_each_label_column_is_judged_by_its_own_rows_and_latency_once() -> None:
    found = report(TwoHeads("good"), TwoHeads("fair"), table=with_urgency(0.5))
    names = ["f1", "auc_roc", "precision", "recall"]
    assert list(outcomes(found)) == [
        *(f"is_fraud.{name}" for name in names),
        "latency_p99_seconds",
        *(f"is_urgent.{name}" for name in names),
    ]
    rows = {c.name: c.n for c in found.criteria}
    assert (rows["is_fraud.f1"], rows["is_urgent.f1"], found.rows) == (1_000, 500, 1_000)
    assert found.verdict == "fail"  # half of what it calls urgent is not
    assert outcomes(found)["is_fraud.precision"] == "pass"
    assert outcomes(found)["is_urgent.precision"] == "fail"
    assert found.rows_per_class.keys() == {"is_fraud.false", "is_fraud.true", "is_urgent.no", "is_urgent.yes"}


def test_a_criterion_may_speak_of_one_label_column() -> None:
    dropped = {f"is_urgent.{name}": None for name in ("f1", "auc_roc", "precision", "recall")}
    found = report(TwoHeads("good"), TwoHeads("fair"), table=with_urgency(), criteria=dropped)
    assert not [name for name in outcomes(found) if "urgent" in name]
    assert found.verdict == "pass"


def test_an_incumbent_without_a_column_cannot_be_compared_there() -> None:
    class Other(TwoHeads):
        def __init__(self, column: str) -> None:
            super().__init__(column)
            heads = tuple(head.model_copy(update={"name": f"old_{head.name}"}) for head in self.schema.heads)
            self.schema = self.schema.model_copy(update={"heads": heads})

    found = report(TwoHeads("good"), Other("fair"), table=with_urgency())
    [f1] = [c for c in found.criteria if c.name == "is_fraud.f1"]
    assert f1.verdict == "inconclusive"
    assert "does not predict is_fraud" in f1.reason


def test_the_gate_knows_no_database_no_queue_and_no_http() -> None:
    forbidden = "{'app.db', 'sqlalchemy', 'fastapi', 'celery', 'sklearn'}"
    program = f"import sys, app.gate; found = {forbidden} & sys.modules.keys(); assert not found, found"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
