from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from benchmarks.llm.tiny import base_model
from tests.workers.llm.talks import conversations, run_of, trained
from workers.llm import memory_estimate, plan
from workers.llm.memory_estimate import Shape
from workers.pipeline import PipelineError


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


def test_memory_that_is_not_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_estimate, "free", lambda *, on_gpu: ("cpu", 300))
    planned = plan.plan(run_of(conversations(), tmp_path))
    assert planned["memory"]["enough"] is False
    assert any("300 MiB that are free" in warning for warning in planned["warnings"])


def test_quantized_and_checkpointed_trainings_want_less() -> None:
    from workers.llm.params import LlmParams

    shape = Shape(
        parameters=600_000_000, trainable=5_000_000, layers=28, hidden=1024, intermediate=3072, vocabulary=151_936
    )
    told = {load: LlmParams.model_validate({"base_model": "/b", "load_in": load}) for load in (None, "8bit", "4bit")}
    wanted = [memory_estimate.estimate(params, shape, on_gpu=True, bf16=True) for params in told.values()]
    assert wanted == sorted(wanted, reverse=True)
    assert len(set(wanted)) == 3
    on_cpu = memory_estimate.estimate(told[None], shape, on_gpu=False, bf16=False)
    assert on_cpu > wanted[0] + 600_000_000 * 2 // 2**20
