"""The gate of a language model: scores of answers → verdict. Pure: no model, no database, no clock."""

import pyarrow as pa

from app.evaluation.bootstrap import Sample, replicates
from app.evaluation.evidence import Contest, Measured, figure, interval_of, p99, results_of
from app.evaluation.metrics import Floats
from app.gate import Seen
from app.gate.criteria import LATENCY, Gate, Mode
from app.gate.report import GateReport
from app.gate.verdict import overall

Corpus = dict[str, dict[str, float | None]]
# Of what is told of a metric beside the figures: its interval, and that of the difference.
CONFIDENCE_OF_FIGURES = 0.95


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


def corpus_of(contest: Contest, gate: Gate, seed: int) -> Corpus:
    """Every metric that was measured, asked for by the gate or not, with 95 % intervals:

    {metric: {candidate, low, high, incumbent, delta, delta_low, delta_high, rows}}; both on the rows that both have.
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
    corpus = {name: _told(name, samples, found) for name in dict.fromkeys(name for name, _ in samples)}
    return corpus | {LATENCY: _latency(contest)}


def _told(
    name: str, samples: dict[tuple[str, bool], Sample], found: dict[tuple[str, bool], Floats]
) -> dict[str, float | None]:
    compared = (name, True) in samples
    sample = samples[name, compared]
    mine = figure(sample, sample.mine)
    theirs = None if sample.theirs is None else figure(sample, sample.theirs)
    delta = None if mine is None or theirs is None else mine - theirs
    low, high = interval_of(found[name, False], CONFIDENCE_OF_FIGURES) or (None, None)
    told = {"candidate": mine, "low": low, "high": high, "incumbent": theirs, "delta": delta}
    if compared:
        between = interval_of(found[name, True], CONFIDENCE_OF_FIGURES) or (None, None)
        told |= {"delta_low": between[0], "delta_high": between[1]}
    return told | {"rows": float(len(sample.rows))}


def _latency(contest: Contest) -> dict[str, float | None]:
    mine = p99(contest.candidate)
    theirs = p99(contest.incumbent) if isinstance(contest.incumbent, Measured) else None
    return {"candidate": mine, "incumbent": theirs, "delta": None if theirs is None else mine - theirs}
