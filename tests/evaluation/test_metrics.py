"""What answers score: the libraries' own values, and sums that tell the same as the whole."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from app.evaluation import metrics, texts
from app.evaluation.metrics import metric, scored

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat.", "42,", "Rome", "x-ray"]), max_size=12)
TEXTS = WORDS.map(" ".join)
CORPORA = st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=8)


def whole(name: str, answers: list[str], references: list[str]) -> float:
    statistics = scored(answers, references)[name].statistics
    return float(metric(name).figure(np.nansum(statistics, axis=0)[None])[0])


@given(CORPORA)
def test_bleu_of_the_sums_is_sacrebleus_of_the_corpus(pairs: list[tuple[str, str]]) -> None:
    answers, references = map(list, zip(*pairs, strict=True))
    assert whole("bleu", answers, references) * 100 == pytest.approx(
        sacrebleu.corpus_bleu(answers, [references]).score, abs=1e-9
    )


@given(CORPORA)
def test_rouge_of_english_is_that_of_rouge_score(pairs: list[tuple[str, str]]) -> None:
    answers, references = map(list, zip(*pairs, strict=True))
    own = RougeScorer(list(metrics.ROUGE))
    for name in metrics.ROUGE:
        expected = [own.score(reference, answer)[name].fmeasure for answer, reference in pairs]
        assert whole(name, answers, references) == pytest.approx(np.mean(expected))


def test_texts_of_other_scripts_are_compared_too() -> None:
    """rouge-score's own pattern finds no word in them, and would call everything equally wrong."""
    right, wrong = "Париж — столица Франции", "Берлин находится в Германии"
    assert scored([right, wrong], [right, right])["rougeL"].rows == [1.0, 0.0]
    assert texts.token_f1("首都是巴黎", "首都是东京") == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Answer is 5.", "answer is 5", 1.0, 1.0),
        ("It is Paris", "Paris", 0.0, 0.5),
        ("", "Paris", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),  # nothing but articles: SQuAD calls both empty
    ],
)
def test_exact_match_and_token_f1_are_squads(answer: str, reference: str, exact: float, f1: float) -> None:
    assert (texts.exact_match(answer, reference), texts.token_f1(answer, reference)) == (exact, f1)


@pytest.mark.parametrize(
    ("answer", "reference", "matches"),
    [
        ("so he pays 1,000 dollars", "#### 1000", 1.0),
        ("#### 18\nI am sure, 100 %", "9 * 2 = 18\n#### 18", 1.0),
        ("12.50", "it costs 12.5", 1.0),
        ("the difference is 7-3", "#### 3", 1.0),
        ("it falls by -3", "#### 3", 0.0),
        ("I do not know", "#### 3", 0.0),
        ("3", "three", None),
    ],
)
def test_an_answer_matches_by_the_number_that_it_ends_in(answer: str, reference: str, matches: float | None) -> None:
    assert texts.number_match(answer, reference) == matches


def test_perplexity_is_of_all_tokens_and_only_of_rows_that_were_asked() -> None:
    found = metrics.perplexity_of([(2.0, 1), (0.0, 3), None, (0.0, 0)])
    assert found.rows == [pytest.approx(np.exp(2.0)), 1.0, None, None]
    assert metric("perplexity").figure(np.nansum(found.statistics, axis=0)[None])[0] == pytest.approx(np.exp(0.5))
