"""What answers score. A metric is a figure of sums: each row has k statistics, and their sums over whatever rows tell
the figure, so that a resample of rows is judged without reading a text again.

    exact_match, token_f1                 SQuAD's (Rajpurkar et al. 2016), see texts.py
    rouge1, rouge2, rougeL                F-measures of rouge-score (Lin 2004), without stemming
    bleu                                  of the corpus (Papineni et al. 2002; tokens and smoothing of sacrebleu,
                                          Post 2018), as a share: sacrebleu's 37.2 is 0.372
    number_match                          the number that an answer ends in, where the reference has one
    perplexity                            exp(-ln p of all references / their tokens); less is better
    answer_length                         words of an answer
    any other name                        the mean of what a judge of that name gave, 0 to 1

Rows are compared on what both versions have. sacrebleu and rouge-score are a worker's: the API only reads figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.evaluation import texts

Floats = npt.NDArray[np.float64]

ORDERS = 4  # of BLEU's n-grams


@dataclass(frozen=True)
class Metric:
    """`figure`: sums (…, k) → (…), NaN where they tell none.

    `apart`: what the statistics of a row may be at best and at worst, (k,) each, given those of the rows that were
    seen, (n, k); None where nothing bounds them.
    """

    figure: Callable[[Floats], Floats]
    apart: Callable[[Floats], tuple[Floats, Floats]] | None = None

    @property
    def is_share(self) -> bool:
        return self.apart is not None


@dataclass(frozen=True)
class Scored:
    """One metric of n answers: statistics (n, k), NaN in rows that have none; and what people read by each answer."""

    statistics: Floats
    rows: list[float | None]


def _ratio(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = sums[..., 0] / sums[..., 1]
    return ratio


def _bleu(sums: Floats) -> Floats:
    """Of correct and possible n-grams of each order, and the words of answers and references, (…, 10).

    Orders of which none is correct count half, a quarter … of one, as mteval-v13a smooths.
    """
    correct, possible = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    said, wanted = sums[..., -2], sums[..., -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        none = correct == 0
        smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=-1), correct) / possible
        brevity = np.where(said < wanted, np.exp(1 - wanted / said), 1.0)
        figure: Floats = brevity * np.exp(np.log(smoothed).mean(axis=-1))
    figure[none.all(axis=-1) | (possible == 0).any(axis=-1)] = 0.0
    figure[wanted == 0] = np.nan
    return figure


def _share(_: Floats) -> tuple[Floats, Floats]:
    return np.array([1.0, 1.0]), np.array([0.0, 1.0])


def _bleu_apart(seen: Floats) -> tuple[Floats, Floats]:
    """A row of the mean length, wholly right or wholly wrong."""
    mean = np.nanmean(seen, axis=0)
    possible, length = mean[ORDERS : 2 * ORDERS], mean[-1]
    return np.array([*possible, *possible, length, length]), np.array([*(0 * possible), *possible, length, length])


MEAN = Metric(_ratio, _share)
METRICS: dict[str, Metric] = {
    "exact_match": MEAN,
    "token_f1": MEAN,
    "rouge1": MEAN,
    "rouge2": MEAN,
    "rougeL": MEAN,
    "bleu": Metric(_bleu, _bleu_apart),
    "number_match": MEAN,
    "perplexity": Metric(lambda sums: np.exp(_ratio(sums))),
    "answer_length": Metric(_ratio),
}
ROUGE = ("rouge1", "rouge2", "rougeL")


def metric(name: str) -> Metric:
    """What is not listed is a judged score."""
    return METRICS.get(name, MEAN)


def scored(answers: Sequence[str], references: Sequence[str]) -> dict[str, Scored]:
    """What the texts alone tell, by metric."""
    pairs = list(zip(answers, references, strict=True))
    rouge = [_rouge(*pair) for pair in pairs] if pairs else []
    return {
        "exact_match": mean_of([texts.exact_match(*pair) for pair in pairs]),
        "token_f1": mean_of([texts.token_f1(*pair) for pair in pairs]),
        **{name: mean_of([found[name] if found else None for found in rouge]) for name in ROUGE},
        "bleu": _scored_bleu(pairs),
        "number_match": mean_of([texts.number_match(*pair) for pair in pairs]),
        "answer_length": mean_of([float(texts.words(answer)) for answer in answers]),
    }


def mean_of(values: Sequence[float | None]) -> Scored:
    """A metric that is the mean of one value a row."""
    statistics = np.array([(np.nan, np.nan) if value is None else (value, 1.0) for value in values], np.float64)
    return Scored(statistics.reshape(len(values), 2), list(values))


def perplexity_of(likelihoods: Sequence[tuple[float, int] | None]) -> Scored:
    """Of (nats, tokens) of each row's reference; None where they were not asked for, or it has no token."""
    known = [each if each and each[1] else None for each in likelihoods]
    statistics = np.array([each or (np.nan, np.nan) for each in known], np.float64).reshape(len(known), 2)
    return Scored(statistics, [float(np.exp(each[0] / each[1])) if each else None for each in known])


class _RougeWords:
    """Letters and digits of every script; of English the same as rouge-score's own."""

    def tokenize(self, text: str) -> list[str]:
        return texts.ROUGE_WORDS.findall(text.lower())


def _rouge(answer: str, reference: str) -> dict[str, float] | None:
    """None where the reference has no word to be found again."""
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - a worker's library: the API starts without it

    if not texts.ROUGE_WORDS.search(reference):
        return None
    found = RougeScorer(list(ROUGE), tokenizer=_RougeWords()).score(reference, answer)
    return {name: float(found[name].fmeasure) for name in ROUGE}


def _scored_bleu(pairs: Sequence[tuple[str, str]]) -> Scored:
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415 - ditto

    reader = BLEU(effective_order=True)
    found = [reader.sentence_score(answer, [reference]) for answer, reference in pairs]
    statistics = np.array([[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in found], np.float64)
    return Scored(statistics.reshape(len(found), 2 * ORDERS + 2), [each.score / 100 for each in found])
