"""A parameter that nobody knows is refused with the nearest one that somebody does, however deep it stands; what only
the worker can tell ends the attempt by name."""

from typing import Any

import pytest

from app.definitions.parameters import faults, of_strategy
from workers import pipeline
from workers.pipeline import PipelineError, params_of

LLM = pipeline.find("llm")
JUDGE = {"url": "http://localhost:8000/v1", "model": "j"}
JUDGED: dict[str, Any] = {"function": "judge", "rubric": "1: kind", **JUDGE}


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"lora": {"alpha": 16}}, "training.lora.alpha", "is not known; the nearest that is: lora.lora_alpha"),
        ({"lora_dropout": 0}, "training.lora_dropout", "is not known; the nearest that is: lora.lora_dropout"),
        ({"max_length": 9}, "training.max_length", "is not known; the nearest that is: max_seq_length"),
        ({"early_stopping": {"patience": 0}}, "training.early_stopping.patience", "does not fit: minimum 1"),
        ({"serve": {"by": "openai", "url": "http://vllm:8000/v1"}}, "training.serve.model", "is missing"),
        ({"serve": {"by": "openai", "url": None, "model": "m"}}, "training.serve.url", 'does not fit: type "string"'),
        ({"serve": {"url": "vllm:8000/v1"}}, "training.serve.url", "does not fit: a URL reads http://"),
        (
            {"evaluate": {"judges": {"kind": JUDGE | {"url": "ftp://j", "rubric": "1: kind"}}}},
            "training.evaluate.judges.kind.url",
            "does not",
        ),
        ({"preference": {"reward": JUDGED | {"url": "j:1"}}}, "training.preference.reward.url", "does not fit: a URL"),
        ({"preference": {"reward": {"function": "judge"} | JUDGE}}, "training.preference.reward.rubric", "is missing"),
        ({"\n": 1}, "training.?", "is not known; known are base_model, "),
        ({"base_model": ""}, "training.base_model", "must be a Hugging Face id, or the absolute path"),
        ({"stages": []}, "training.stages", "are named once each; leave it out for all of them"),
        ({"stages": ["publish", "sft", "prepare"]}, "training.stages", "have publish, which needs export: add export"),
        ({"stages": ["evaluate", "merge", "prepare"]}, "training.stages", "have evaluate, which needs export"),
        ({"stages": ["generate", "prepare"]}, "training.stages", "have generate, which needs merge"),
        ({"stages": ["export", "prepare"]}, "training.stages", "have export, which needs merge"),
        ({"stages": ["sft"]}, "training.stages", "have sft, which needs prepare"),
        ({"stages": ["preference"]}, "training.stages", "have preference, which needs prepare"),
        ({"stages": ["merge"]}, "training.stages", "have merge, which needs prepare"),
        (
            {"curriculum": {"strategy": "staged"}},
            "training.curriculum.stages",
            "is missing; goes with strategy: staged",
        ),
        ({"curriculum": {"stages": [{"name": "a"}]}}, "training.curriculum.stages", "goes with strategy: staged"),
        ({"preference": {"method": "grpo"}}, "training.preference.reward", "is missing; name what grpo and rloo are"),
        ({"preference": {"method": "rloo"}}, "training.preference.reward", "is missing; name what grpo and rloo are"),
    ],
)
def test_what_is_wrong_is_named_by_its_path_and_the_nearest_name(
    params: dict[str, Any], field: str, message: str
) -> None:
    [fault] = faults(LLM.params.model_json_schema(), {"base_model": "x"} | params)
    assert (fault["field"], fault["message"].startswith(message)) == (field, True)


@pytest.mark.parametrize(
    "params",
    [
        {"stages": ["sft", "prepare"]},
        {"stages": ["publish", "export", "merge", "sft", "prepare"]},
        {"curriculum": {"strategy": "staged", "stages": [{"name": "a"}]}},
        {"preference": {"method": "grpo", "reward": {"function": "length"}}},
    ],
)
def test_stages_with_what_they_read_and_methods_with_what_they_need_are_taken_in_any_order(
    params: dict[str, Any],
) -> None:
    assert faults(LLM.params.model_json_schema(), {"base_model": "x"} | params) == []


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"serve": {"by": "ollama", "model": "llama3.2"}}, []),
        ({"serve": {"by": "ollama", "model": "llama3.2"}, "stages": ["export", "publish"]}, []),
        ({}, ["training.serve"]),
        ({"serve": {"by": "ollama"}}, ["training.serve.model"]),
        ({"serve": {"by": "ollama", "model": ""}}, ["training.serve.model"]),
        ({"serve": {"by": "llama_cpp", "model": "llama3.2"}}, ["training.serve.by"]),
        ({"base_modl": "x", "serve": {"by": "ollama", "model": "m"}}, ["training.base_modl"]),
    ],
)
def test_a_pull_names_what_is_pulled_and_no_base(params: dict[str, Any], fields: list[str]) -> None:
    found = faults(of_strategy(LLM.params.model_json_schema(), "pull"), params)
    assert [fault["field"] for fault in found] == fields
    assert not fields or "ollama" in found[0]["message"] or "base_model" in found[0]["message"]
    if not fields:
        params_of(LLM, params)


@pytest.mark.parametrize("url", ["http://me:hunter2@vllm/v1", "https://vllm/v1?key=hunter2", "hunter2"])
@pytest.mark.parametrize("where", ["serve", "evaluate", "reward", "gpu"])
def test_a_url_that_may_hold_a_secret_is_refused_by_both_and_said_by_neither(where: str, url: str) -> None:
    endpoints: dict[str, dict[str, Any]] = {
        "serve": {"serve": {"by": "openai", "model": "m", "url": url}},
        "evaluate": {"evaluate": {"judges": {"kind": {"model": "m", "rubric": "r", "url": url}}}},
        "reward": {"preference": {"reward": JUDGED | {"url": url}}},
        "gpu": {"gpu": {"unload_ollama": url}},
    }
    told = {"base_model": "x"} | endpoints[where]
    [fault] = faults(LLM.params.model_json_schema(), told)
    assert fault["field"].endswith(("url", "unload_ollama"))
    with pytest.raises(PipelineError) as refused:
        params_of(LLM, told)
    assert "hunter2" not in f"{fault} {refused.value.message}"


def test_two_that_are_missing_are_named_once_each() -> None:
    told = {"base_model": "x", "serve": {"by": "openai"}}
    assert faults(LLM.params.model_json_schema(), told) == [
        {"field": "training.serve.url", "message": "is missing"},
        {"field": "training.serve.model", "message": "is missing"},
    ]
    with pytest.raises(PipelineError, match="serve: by: openai needs url and model"):
        params_of(LLM, told)


def test_what_no_schema_can_tell_ends_the_attempt_by_name_and_not_by_a_trace() -> None:
    told = {"base_model": "x", "curriculum": {"strategy": "staged", "stages": [{"name": "a", "share": 0.5}]}}
    assert faults(LLM.params.model_json_schema(), told) == []
    with pytest.raises(PipelineError, match=r"curriculum: give every stage a share") as refused:
        params_of(LLM, told)
    assert refused.value.code == "invalid_params"
