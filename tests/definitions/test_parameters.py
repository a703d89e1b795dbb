"""A parameter that nobody knows is refused with the nearest one that somebody does, however deep it stands; what only
the worker can tell ends the attempt by name."""

from typing import Any

import pytest

from app.definitions.parameters import faults
from workers import pipeline
from workers.pipeline import PipelineError, params_of

LLM = pipeline.find("llm")


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"lora": {"alpha": 16}}, "training.lora.alpha", "is not known; the nearest that is: lora.lora_alpha"),
        ({"lora_dropout": 0}, "training.lora_dropout", "is not known; the nearest that is: lora.lora_dropout"),
        ({"max_length": 9}, "training.max_length", "is not known; the nearest that is: max_seq_length"),
        ({"early_stopping": {"patience": 0}}, "training.early_stopping.patience", "does not fit: minimum 1"),
        ({"\n": 1}, "training.?", "is not known; known are base_model, "),
    ],
)
def test_what_is_wrong_is_named_by_its_path_and_the_nearest_name(
    params: dict[str, Any], field: str, message: str
) -> None:
    [fault] = faults(LLM.params.model_json_schema(), {"base_model": "x"} | params)
    assert (fault["field"], fault["message"].startswith(message)) == (field, True)


def test_what_no_schema_can_tell_ends_the_attempt_by_name_and_not_by_a_trace() -> None:
    told = {"base_model": "x", "curriculum": {"strategy": "staged"}}
    assert faults(LLM.params.model_json_schema(), told) == []
    with pytest.raises(PipelineError, match=r"curriculum: curriculum.stages goes with strategy: staged") as refused:
        params_of(LLM, told)
    assert refused.value.code == "invalid_params"
