from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from benchmarks.llm.tiny import base_model, pairs
from tests.workers.llm.talks import asked, conversations, run_of, trained
from tests.workers.runs import data_of
from workers.llm import launch, memory_estimate, plan
from workers.llm.memory_estimate import Shape
from workers.llm.params import LlmParams
from workers.pipeline import PipelineError
from workers.pipelines.llm import PIPELINE

QWEN = Shape(
    parameters=600_000_000,
    trainable=5_000_000,
    layers=28,
    hidden=1024,
    intermediate=3072,
    vocabulary=151_936,
    keys=1024,
)


def test_the_plan_is_what_the_training_then_does(tmp_path: Path) -> None:
    params: dict[str, Any] = {"epochs": 2, "max_seq_length": 24, "curriculum": {"target_dataset_size": 20}}
    planned = plan.plan(run_of(conversations(), tmp_path, **params))
    assert not list((tmp_path / "checkpoints").iterdir())
    done = trained(run_of(conversations(), tmp_path, **params))
    assert {name: planned[name] for name in ("steps", "epochs", "tokens")} == {
        name: done.figures[name] for name in ("steps", "epochs", "tokens")
    }
    adapter = load_file(done.folder / "adapter" / "adapter_model.safetensors")
    assert planned["trainable"] == sum(tensor.size for tensor in adapter.values())
    assert planned["parameters"] == 172_416
    assert planned["trainable_share"] == pytest.approx(8_192 / 172_416)
    assert planned["rows_truncated"] == 3
    assert planned["memory"]["enough"] is True
    assert planned["base_model"] == str(base_model())
    assert {"strategy", "base"}.isdisjoint(planned), "the attempt adds them, and would overwrite these"
    assert planned["seconds"] is None
    assert planned["effective"]["batch_size"] == 2
    assert any("3 rows lose their end" in warning for warning in planned["warnings"])


@pytest.mark.parametrize(
    ("code", "params"),
    [
        ("base_unavailable", {"base_model": "/nowhere"}),
        ("batch_too_large", {"batch_size": 64}),
        ("rows_truncated", {"max_seq_length": 16, "system_prompt": "You are a helpful assistant."}),
        ("sequence_too_long", {"max_seq_length": 4096}),
        ("adapter_mismatch", {"lora": {"target_modules": ["c_attn"]}}),
        ("curriculum_mismatch", {"curriculum": {"strategy": "therapeutic"}}),
        ("modelfile_differs", {"export": {"modelfile": "FROM x\nSYSTEM You are Mario."}}),
        ("modelfile_missing", {"export": {"modelfile": "/nowhere/Modelfile"}}),
    ],
)
def test_a_plan_refuses_what_the_training_would(tmp_path: Path, code: str, params: dict[str, Any]) -> None:
    with pytest.raises(PipelineError) as refusal:
        plan.plan(run_of(conversations(), tmp_path, **params))
    assert refusal.value.code == code


def test_a_batch_too_large_names_the_rows_that_max_seq_length_has_cut_away(tmp_path: Path) -> None:
    # The first ten prompts fill the sequence.
    known = [(q if i > 9 else "What is 2 plus 3? " * 20, a) for i, (q, a) in enumerate(pairs()[:40])]
    table = pa.table({"prompt": [asked(q) for q, _ in known], "completion": [a for _, a in known]})
    data = data_of(table, label="completion")
    with pytest.raises(PipelineError, match=r"\d+ rows are left out, as max_seq_length 64 ends before") as refusal:
        plan.plan(run_of(data, tmp_path, batch_size=16))
    assert refusal.value.code == "batch_too_large"
    assert refusal.value.remedy.startswith("Raise training.max_seq_length, which is the likely cause; or lower batch_")


def test_a_plan_has_the_stages_that_are_on_and_warns_of_who_does_not_answer(tmp_path: Path) -> None:
    serve = {"by": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"}
    planned = PIPELINE.plan(run_of(conversations(), tmp_path, stages=["sft", "prepare"], serve=serve))
    assert planned["stages"] == ["prepare", "sft"]
    assert any(warning.startswith("training.serve: http://127.0.0.1:9/v1 ") for warning in planned["warnings"])


def test_a_method_that_has_no_feedback_yet_says_so_and_not_that_none_is_defined(tmp_path: Path) -> None:
    planned = plan.plan(run_of(conversations(), tmp_path, preference={"method": "kto"}))
    assert any(warning.startswith("no feedback yet") for warning in planned["warnings"])


def test_memory_that_is_not_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_estimate, "free", lambda *, on_gpu: ("cpu", 300))
    planned = plan.plan(run_of(conversations(), tmp_path))
    assert planned["memory"]["enough"] is False
    assert any(
        "the stage sft is estimated to want" in warning and "300 MiB are free" in warning
        for warning in planned["warnings"]
    )


def test_quantized_and_checkpointed_trainings_want_less() -> None:
    shape = QWEN
    told = {load: LlmParams.model_validate({"base_model": "/b", "load_in": load}) for load in (None, "8bit", "4bit")}
    wanted = [memory_estimate.estimate(params, shape, on_gpu=True, bf16=True) for params in told.values()]
    assert wanted == sorted(wanted, reverse=True)
    assert len(set(wanted)) == 3
    on_cpu = memory_estimate.estimate(told[None], shape, on_gpu=False, bf16=False)
    assert on_cpu > wanted[0] + 600_000_000 * 2 // 2**20


def test_the_stage_that_wants_most_memory_decides_and_is_named(tmp_path: Path) -> None:
    def told(**preference: Any) -> dict[str, Any]:
        run = run_of(conversations(), tmp_path, preference=preference)
        run.preference = run.data
        memory: dict[str, Any] = plan.plan(run)["memory"]
        return memory

    small = {"batch_size": 1, "gradient_accumulation_steps": 1, "num_generations": 2, "max_completion_length": 8}
    alone = plan.plan(run_of(conversations(), tmp_path))["memory"]
    assert (alone["stage"], told(method="dpo", batch_size=8)["stage"]) == ("sft", "preference")
    assert told(method="rloo", **small)["stage"] == "sft"
    many = told(method="rloo", batch_size=64, gradient_accumulation_steps=64, max_completion_length=1_024)
    assert many["stage"] == "preference"
    assert many["estimate_mib"] > alone["estimate_mib"] + 2_000
    nothing = run_of(conversations(), tmp_path, stages=["prepare", "merge", "export"])
    assert plan.plan(nothing)["memory"]["estimate_mib"] is None


@pytest.mark.parametrize("changed", ["max_completion_length", "gradient_accumulation_steps", "batch_size"])
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_answers_that_are_written_take_memory_by_their_number_and_their_length(method: str, changed: str) -> None:
    plain: dict[str, Any] = {"method": method, "gradient_accumulation_steps": 8, "max_completion_length": 512}

    def wanted(**preference: Any) -> int:
        params = LlmParams.model_validate({"base_model": "/b", "preference": plain | preference})
        return memory_estimate.estimate(params, QWEN, "preference", on_gpu=True, bf16=True)

    # 32 answers of 1,536 tokens, each with 28 layers of 1,024 keys and as many values, in bf16
    assert wanted() > 32 * 1_536 * 28 * 1_024 * 2 * 2 / 2**20
    assert wanted(**{changed: 1_024}) > wanted()


def test_where_nobody_says_how_many_processes_there_is_one_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = plan.plan(run_of(conversations(), tmp_path))
    monkeypatch.setattr(launch, "_gpus", lambda: 2)
    both = plan.plan(run_of(conversations(), tmp_path))
    assert (alone["processes"], both["processes"]) == (1, 2)
    assert both["steps"] == -(-alone["steps"] // 2)
    assert plan.plan(run_of(conversations(), tmp_path, processes=1))["steps"] == alone["steps"]
