"""Criteria of one class, beside those of the mean over all."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from app.gate import GateReport, Seen, judge
from app.gate.criteria import Criterion, Gate, Slice, parsed
from app.runtimes import Batch, Prediction
from app.runtimes.schema import Column, Head, InputSchema

LABELS = ("ham", "spam", "v1.2")


class ThreeClasses:
    """Reads three columns as the probabilities of three classes."""

    is_quick = True

    def __init__(self, prefix: str) -> None:
        columns = tuple(Column(name=f"{prefix}{i}", kind="numeric") for i in range(3))
        self.schema = InputSchema(columns=columns, heads=(Head(name="kind", labels=LABELS),))

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        return (Prediction(batch.numeric, batch.numeric.max(axis=1), batch.numeric.argmax(axis=1)),)

    def smoke_inputs(self) -> list[Any]:
        return []


def table_of(n: int = 3_000, share: float = 0.1) -> pa.Table:
    """`share` of the rows are of class v1.2. Version b is as a, but for what is spam, of which it finds little."""
    rng = np.random.default_rng(2)
    truth = rng.choice(3, size=n, p=[0.9 - share, 0.1, share])
    columns: dict[str, Any] = {}
    for prefix, spam in (("a", 3.0), ("b", 0.5)):
        logits = rng.normal(size=(n, 3)) + np.eye(3)[truth] * np.array([3.0, spam, 3.0])
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns |= {f"{prefix}{i}": probabilities[:, i] for i in range(3)}
    return pa.table(columns | {"kind": np.array(LABELS)[truth], "shop": rng.choice(["x", "y"], size=n)})


def judged(table: pa.Table, criteria: dict[str, Any], candidate: str = "a", **gate: Any) -> GateReport:
    nothing = np.zeros(len(table), np.bool_)
    rules = Gate(criteria=dict.fromkeys(Gate().criteria_of("kind")) | criteria, **gate)
    return judge(
        ThreeClasses(candidate), ThreeClasses("a"), 7, table, rules, mode="confident", data_version="d", seed=1,
        seen=Seen(nothing, nothing),
    )  # fmt: skip


def test_a_class_is_measured_against_the_rest() -> None:
    table = table_of()
    names = ("precision", "recall", "f1", "auc_roc")
    found = judged(table, {f"{name}[{label}]": Criterion(min=0) for name in names for label in LABELS})
    figures = {c.name: c.candidate for c in found.criteria}
    truth = np.array(table["kind"])
    scores = np.column_stack([np.array(table[f"a{i}"]).astype(np.float32) for i in range(3)])
    expected = precision_recall_fscore_support(truth, np.array(LABELS)[scores.argmax(axis=1)], labels=LABELS)
    for place, label in enumerate(LABELS):
        assert [figures[f"{name}[{label}]"] for name in names] == pytest.approx(
            [*(values[place] for values in expected[:3]), roc_auc_score(truth == label, scores[:, place])]
        )


def test_the_mean_does_not_hide_what_one_class_loses() -> None:
    margins = {"f1": Criterion(max_drop=0.3), "recall[spam]": Criterion(max_drop=0.05)}
    found = judged(table_of(), margins, candidate="b")
    assert {c.name: c.verdict for c in found.criteria} == {"f1": "pass", "recall[spam]": "fail"}
    assert found.criteria[1].interval is not None


def test_a_class_that_the_candidate_does_not_know_is_inconclusive() -> None:
    found = judged(table_of(), {"recall[eggs]": Criterion(min=0.5)})
    assert found.reason == "recall[eggs]: the candidate knows no class eggs; it knows ham, spam, v1.2."
    assert found.verdict == "inconclusive"


def test_a_criterion_may_ask_for_more_rows_of_its_class() -> None:
    table = table_of(share=0.01)
    n = table["kind"].to_pylist().count("v1.2")
    asked = Criterion(min=0.1, min_rows_per_class=n)
    assert judged(table, {"recall[v1.2]": asked}).verdict == "pass"
    more = asked.model_copy(update={"min_rows_per_class": n + 1})
    found = judged(table, {"recall[v1.2]": more, "recall[ham]": more})
    assert {c.name: c.verdict for c in found.criteria} == {"recall[v1.2]": "inconclusive", "recall[ham]": "pass"}
    assert f"{n} of v1.2, and {n + 1} rows of a class are asked for" in found.reason


def test_in_a_slice_the_mean_is_over_the_classes_that_are_there() -> None:
    table = table_of()
    kept = table.filter(pa.array((np.array(table["shop"]) == "x") | (np.array(table["kind"]) != "spam")))
    sliced = Slice(column="shop", criteria={"recall": Criterion(min=0.8), "recall[spam]": Criterion(min=0.8)})
    found = {c.name: c for c in judged(kept, {}, slices=[sliced]).criteria}
    assert found["recall[shop=y]"].verdict == "pass"  # were spam counted as never found, it were below 0.65
    assert found["recall[spam][shop=x]"].verdict == "pass"
    assert found["recall[spam][shop=y]"].verdict == "not_applicable"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("f1", (None, "f1", None)),
        ("recall[spam]", (None, "recall", "spam")),
        ("recall[v1.2]", (None, "recall", "v1.2")),
        ("category.f1", ("category", "f1", None)),
        ("my.category.f1[a b]", ("my.category", "f1", "a b")),
        ("f1[[x]]", (None, "f1", "[x]")),
    ],
)
def test_a_name_is_read_as_people_write_it(name: str, parts: tuple[str | None, ...]) -> None:
    assert tuple(parsed(name)) == parts
