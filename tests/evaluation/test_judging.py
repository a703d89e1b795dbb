"""The gate of a language model: every kind of evidence, and what is said of it."""

from typing import Any

import numpy as np
import pyarrow as pa

from app.evaluation.evidence import Contest, Measured
from app.evaluation.judging import corpus_of, judge
from app.evaluation.metrics import mean_of, perplexity_of
from app.gate import Seen
from app.gate.criteria import Gate
from app.gate.report import GateReport

ROWS = 100
CLEAN = Seen(np.zeros(ROWS, np.bool_), np.zeros(ROWS, np.bool_))
ONLY_F1 = {"rougeL": None}


def measured(f1: float | np.ndarray[Any, Any], *, rows: int = ROWS, seconds: float = 0.1, **more: Any) -> Measured:
    shares = mean_of(np.broadcast_to(f1, rows).tolist()).statistics
    return Measured({"token_f1": shares, "rougeL": shares, **more}, np.full(rows, seconds))


def judged(
    mine: Measured,
    theirs: Measured | str | None,
    beside: pa.Table | None = None,
    seen: Seen = CLEAN,
    mode: Any = "point",
    **gate: Any,
) -> GateReport:
    contest = Contest(mine, theirs)
    rows = contest.rows
    beside = beside if beside is not None else pa.table({"risk": ["high", "low"] * (rows // 2)})
    number = None if theirs is None else 3
    return judge(
        contest, beside, Gate.model_validate(gate), mode=mode, incumbent=number, data_version="d", seed=1, seen=seen
    )


def test_by_default_it_must_not_lose_and_nothing_absolute_is_asked() -> None:
    assert judged(measured(0.2), measured(0.2)).verdict == "pass"
    report = judged(measured(0.2), measured(0.25))
    assert (report.verdict, [c.name for c in report.criteria]) == ("fail", ["token_f1", "rougeL"])
    assert "a loss beyond 0.01" in report.reason
    first = judged(measured(0.0), None)
    assert (first.verdict, {c.verdict for c in first.criteria}) == ("pass", {"not_applicable"})


def test_what_cannot_be_measured_is_inconclusive_and_says_why() -> None:
    """No data is not a pass: an incumbent that is not there, likelihoods nobody tells, a score that nobody gave."""
    gone = judged(measured(0.9), "the incumbent, version 3, cannot be loaded: no such file")
    assert (gone.verdict, gone.reason.count("no such file")) == ("inconclusive", 1)
    criteria = ONLY_F1 | {"perplexity": {"max": 20}, "empathy": {"min": 0.5}}
    untold = judged(measured(0.9, perplexity="its server tells no likelihoods"), measured(0.9), criteria=criteria)
    assert untold.verdict == "inconclusive"
    assert "its server tells no likelihoods" in untold.reason
    assert "empathy was not asked for" in untold.reason


def test_a_failure_weighs_more_than_what_is_not_known() -> None:
    report = judged(measured(0.5), "the incumbent cannot be loaded", criteria={"token_f1": {"min": 0.9}})
    assert report.verdict == "fail"


def test_few_rows_are_inconclusive_of_the_whole_and_of_one_metric() -> None:
    assert judged(measured(0.9, rows=40), measured(0.9, rows=40)).verdict == "inconclusive"
    few = perplexity_of([(2.0, 4)] * 20 + [None] * 80).statistics
    report = judged(measured(0.9, perplexity=few), None, criteria={"perplexity": {"max": 20}})
    assert "20 rows have it, and 50 are asked for" in report.reason
    none = judged(measured(0.9, rows=0), measured(0.9, rows=0), pa.table({}))
    assert (none.verdict, none.rows) == ("inconclusive", 0)


def test_a_confident_gate_asks_for_more_rows_where_a_loss_may_hide() -> None:
    rng = np.random.default_rng(4)
    noisy = np.clip(0.6 + rng.normal(0, 0.3, ROWS), 0, 1), np.clip(0.6 + rng.normal(0, 0.3, ROWS), 0, 1)
    report = judged(measured(np.maximum(*noisy)), measured(noisy[0]), mode="confident")
    assert report.verdict == "pass"
    report = judged(measured(noisy[1]), measured(noisy[1][::-1]), mode="confident")
    assert (report.verdict, "more rows are needed" in report.reason) == ("inconclusive", True)


def test_a_gain_on_average_hides_no_loss_of_a_slice() -> None:
    high = np.arange(ROWS) % 2 == 0
    theirs = measured(0.7)
    mine = measured(np.where(high, 0.3, 1.0))
    slices = [{"column": "risk", "criteria": {"token_f1": {"max_drop": 0.05}}}]
    report = judged(mine, theirs, slices=slices)
    assert report.verdict == "fail"
    assert [(c.slice, c.verdict) for c in report.criteria if c.slice] == [("risk=high", "fail"), ("risk=low", "pass")]


def test_rows_that_nobody_knows_to_be_unseen_pass_nothing() -> None:
    unknown = Seen("there is no record", np.zeros(ROWS, np.bool_))
    assert judged(measured(0.9), measured(0.9), seen=unknown).verdict == "inconclusive"
    assert judged(measured(0.9), measured(0.9), seen=unknown, leak_check="reported").verdict == "pass"


def test_latency_is_of_the_slowest_answer_in_a_hundred() -> None:
    criteria = {"latency_p99_seconds": {"max": 0.05, "max_rise": 0.2}}
    report = judged(measured(0.9), measured(0.9, seconds=0.01), criteria=criteria)
    [latency] = [c for c in report.criteria if c.name == "latency_p99_seconds"]
    assert (latency.verdict, latency.candidate, latency.incumbent, latency.interval) == ("fail", 0.1, 0.01, None)


def test_every_metric_is_told_with_intervals_whether_or_not_the_gate_asks() -> None:
    rng = np.random.default_rng(4)
    mine, theirs = measured(rng.random(ROWS)), measured(rng.random(ROWS))
    told = corpus_of(Contest(mine, theirs), Gate(), 1)["token_f1"]
    figures = {name: figure for name, figure in told.items() if figure is not None}
    assert figures["low"] < figures["candidate"] < figures["high"]
    assert figures["delta_low"] < figures["delta"] < figures["delta_high"]
    wide = corpus_of(Contest(mine, theirs), Gate(confidence=0.999), 1)["token_f1"]["delta_low"]
    assert wide is not None
    assert wide < figures["delta_low"]
    alone = corpus_of(Contest(mine, "cannot be loaded"), Gate(), 1)["token_f1"]
    assert alone["candidate"] == told["candidate"]
    assert (alone["incumbent"], alone["delta"]) == (None, None)


def test_of_one_difference_there_is_one_interval_and_its_level_is_told() -> None:
    rng = np.random.default_rng(4)
    mine, theirs = measured(rng.random(ROWS)), measured(rng.random(ROWS))
    report = judged(mine, theirs, criteria={"token_f1": {"max_drop": 0.5}}, confidence=0.9)
    [criterion] = [c for c in report.criteria if c.name == "token_f1"]
    # Another seed: what was drawn once is taken, not drawn again.
    told = corpus_of(Contest(mine, theirs), Gate(confidence=0.9), 2, report.criteria)["token_f1"]
    assert (told["delta_low"], told["delta_high"]) == criterion.interval
    assert report.confidence == 0.9
