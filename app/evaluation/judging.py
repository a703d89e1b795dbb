"""The gate of a language model: scores of answers → verdict. Pure: no model, no database, no clock."""

from collections.abc import Sequence

import pyarrow as pa

from app.evaluation.bootstrap import Sample, replicates
from app.evaluation.evidence import Contest, Measured, figure, interval_of, p99, results_of
from app.gate import Seen
from app.gate.criteria import LATENCY, Gate, Mode
from app.gate.report import CriterionResult, GateReport
from app.gate.verdict import overall

Corpus = dict[str, dict[str, float | None]]


def judge(
    contest: Contest,
    beside: pa.Table,
    gate: Gate,
    *,
    mode: Mode,
    incumbent: int | None,
    data_version: str,
    seed: int,
    seen: Seen,
) -> GateReport:
    """Judges the candidate on n rows, of which `beside` has the other columns, for slices.

    `seen` counts the rows that were left out because a version was trained on them, or says why nobody knows.
    """
    results = results_of(contest, beside, gate, mode, seed) if contest.rows else []
    verdict, reason = overall(results, contest.rows, {}, gate, unknown=seen.unknown)
    return GateReport(
        verdict=verdict,
        mode=mode,
        incumbent=incumbent,
        data_version=data_version,
        rows=contest.rows,
        rows_per_class={},
        criteria=results,
        reason=reason,
        confidence=gate.confidence,
        excluded=seen.counts(),
        leak_check="unknown" if seen.unknown else "done",
        leak_reason=seen.unknown,
    )


def not_judged(reason: str, *, mode: Mode, incumbent: int | None, data_version: str) -> GateReport:
    """Where nothing was asked: no data is not a pass."""
    return GateReport(
        verdict="inconclusive",
        mode=mode,
        incumbent=incumbent,
        data_version=data_version,
        rows=0,
        rows_per_class={},
        criteria=[],
        reason=reason,
    )


def corpus_of(contest: Contest, gate: Gate, seed: int, judged: Sequence[CriterionResult] = ()) -> Corpus:
    """Every metric that was measured, asked for by the gate or not, with intervals of the gate's confidence:

    {metric: {candidate, low, high, incumbent, delta, delta_low, delta_high, rows}}; both on the rows that both have.
    Of a difference that the gate has `judged`, the interval is that by which it did.
    """
    samples: dict[tuple[str, bool], Sample] = {}
    if not contest.rows:
        return {}
    for name in contest.candidate.statistics:
        for compared in (False, True):
            sample = contest.sample(name, compared)
            if isinstance(sample, Sample) and len(sample.rows) and (sample.theirs is not None) == compared:
                samples[name, compared] = sample
    found = replicates(samples, contest.rows, resamples=gate.resamples, seed=seed)
    known = {each.name: each.interval for each in judged if each.slice is None and each.interval is not None}
    told = {key: known.get(key[0]) if key[1] else None for key in found}
    intervals = {key: told[key] or interval_of(values, gate.confidence) for key, values in found.items()}
    corpus = {name: _told(name, samples, intervals) for name in dict.fromkeys(name for name, _ in samples)}
    return corpus | {LATENCY: _latency(contest)}


def _told(
    name: str, samples: dict[tuple[str, bool], Sample], intervals: dict[tuple[str, bool], tuple[float, float] | None]
) -> dict[str, float | None]:
    compared = (name, True) in samples
    sample = samples[name, compared]
    mine = figure(sample, sample.mine)
    theirs = None if sample.theirs is None else figure(sample, sample.theirs)
    delta = None if mine is None or theirs is None else mine - theirs
    low, high = intervals[name, False] or (None, None)
    told = {"candidate": mine, "low": low, "high": high, "incumbent": theirs, "delta": delta}
    if compared:
        between = intervals[name, True] or (None, None)
        told |= {"delta_low": between[0], "delta_high": between[1]}
    return told | {"rows": float(len(sample.rows))}


def _latency(contest: Contest) -> dict[str, float | None]:
    mine = p99(contest.candidate)
    theirs = p99(contest.incumbent) if isinstance(contest.incumbent, Measured) else None
    return {"candidate": mine, "incumbent": theirs, "delta": None if theirs is None else mine - theirs}
