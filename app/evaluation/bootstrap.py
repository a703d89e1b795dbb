"""How sure a figure of answers is: the paired bootstrap over rows (Efron & Tibshirani 1993; Koehn 2004 for BLEU).

A resample draws as many rows as there are, with replacement, and weighs both versions and every metric with the same
draw. As in `gate/bootstrap.py`, rows alone say nothing of what was not drawn: where two versions do equally on 50 rows
the interval would be [0, 0] and sure. So to the rows come one on which only the candidate is wholly right and one on
which only the incumbent is, each a Poisson(1) number of times; where no loss is seen in n rows, about 3 / n is what may
be there. That holds for figures that are bounded: of perplexity and lengths nobody knows how far a row may go, so their
intervals speak of rows like those that were seen. Nor does any interval know of prompts unlike these, of a judge's own
mistakes, or of the draw of an answer, which is greedy.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from app.evaluation.metrics import Floats, Metric
from app.gate.bootstrap import resampled_weights
from app.gate.tally import Integers, Weights

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Sample:
    """What is measured on which of the n rows: statistics (n, k) of the candidate, and of the incumbent where two are
    compared. `rows` are places; on each of them both have statistics."""

    metric: Metric
    mine: Floats
    theirs: Floats | None
    rows: Integers


def replicates(samples: Mapping[Name, Sample], rows: int, *, resamples: int, seed: int) -> dict[Name, Floats]:
    """The figure, or candidate minus incumbent, in every resample of `rows` rows: (resamples,) by sample; NaN in those
    that tell none."""
    found: dict[Name, list[Floats]] = {name: [] for name in samples}
    rng = np.random.default_rng((seed, 1))
    for weights in resampled_weights(np.zeros(rows, np.int64), resamples, seed):
        unseen = rng.poisson(1, size=(len(weights), 2)).astype(np.float64)
        for name, sample in samples.items():
            found[name].append(_of(sample, weights, unseen))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _of(sample: Sample, weights: Weights, unseen: Floats) -> Floats:
    own = weights[:, sample.rows].astype(np.float64)
    mine = sample.mine[sample.rows]
    if sample.theirs is None:
        return sample.metric.figure(own @ mine + _added(sample.metric, mine, unseen))
    theirs = sample.theirs[sample.rows]
    if np.array_equal(mine, theirs):
        return np.zeros(len(weights))
    ours = sample.metric.figure(own @ mine + _added(sample.metric, mine, unseen))
    return ours - sample.metric.figure(own @ theirs + _added(sample.metric, mine, unseen[:, ::-1]))


def _added(metric: Metric, seen: Floats, times: Floats) -> Floats | float:
    """Statistics of rows at their best, times[:, 0] of them, and at their worst, times[:, 1]: (b, k)."""
    if metric.apart is None or not len(seen):
        return 0.0
    added: Floats = times @ np.stack(metric.apart(seen))
    return added
