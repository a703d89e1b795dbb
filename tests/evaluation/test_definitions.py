"""What the gate of a language model may be asked, checked when the definition is applied."""

from typing import Any

import pytest

from app.definitions.schemas import Definition
from app.evaluation.criteria import criteria_of

CHAT = {"prompt": "question", "completion": "answer"}
JUDGES = {"evaluate": {"judges": {"empathy": {"url": "http://j/v1", "model": "j", "rubric": "r"}}}}


def definition(**changes: Any) -> Definition:
    data = {"source": "samples", "chat": CHAT}
    return Definition.model_validate({"type": "llm", "data": data, "training": JUDGES} | changes)


def test_the_defaults_are_those_of_answers_and_none_is_a_classifiers() -> None:
    bare = definition()
    assert {name: c.model_dump(exclude_none=True) for name, c in criteria_of(bare.gate).items()} == {
        "token_f1": {"max_drop": 0.01},
        "rougeL": {"max_drop": 0.01},
    }
    assert bare.latency_limit is None
    asked = definition(gate={"criteria": {"token_f1": None, "empathy": {"min": 0.6}, "bleu": {"max_drop": 0.02}}})
    assert sorted(criteria_of(asked.gate)) == ["bleu", "empathy", "rougeL"]
    limited = definition(gate={"criteria": {"latency_p99_seconds": {"max": 30}}})
    assert limited.latency_limit == 30


@pytest.mark.parametrize(
    ("gate", "training", "told"),
    [
        ({"criteria": {"f1": {"min": 0.5}}}, JUDGES, r"does not measure f1; it knows exact_match, .*, empathy"),
        ({"criteria": {"empathy": {"min": 0.5}}}, {}, r"does not measure empathy.*training.evaluate.judges names"),
        ({"criteria": {"bleu": {"min": 37.2}}}, JUDGES, "bleu is from 0 to 1; a bound of 37.2 is beyond that"),
        ({"criteria": {"rougeL": {"min": 0.1, "min_rows_per_class": 3}}}, JUDGES, "answers are of no class"),
        (
            {"slices": [{"column": "risk", "criteria": {"latency_p99_seconds": {"max": 1}}}]},
            JUDGES,
            "latency is of all rows together",
        ),
        ({}, {"evaluate": {"judges": {"bleu": {}}}}, "names a score bleu, which is a metric"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_with_what_there_is(
    gate: dict[str, Any], training: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        definition(gate=gate, training=training)


def test_perplexity_has_no_upper_bound() -> None:
    definition(gate={"criteria": {"perplexity": {"max": 25, "max_rise": 1.5}}})
