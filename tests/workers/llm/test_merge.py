"""Adapter and base as one model: the same logits, the same answers, or no model at all."""

import json
import os
import resource
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from tests.workers.llm.exports import (
    KNOWN,
    QUESTION,
    TAUGHT,
    TRUE,
    answer,
    chat,
    merged,
    prepared,
    run_of,
    trained,
)
from tests.workers.runs import news_of
from workers.llm import generate, merge
from workers.llm.stages import Done
from workers.pipeline import PipelineError

# PEFT 0.21 asks transformers 5.23 for a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return trained(tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """The base alone, merged with nothing."""
    return merged(tmp_path_factory.mktemp("bare"))


def done(folder: Path, **stages: Done) -> dict[str, Done]:
    return {"prepare": prepared(folder), **stages}


def test_the_merged_model_knows_what_the_adapter_learnt_and_what_the_base_knew(tmp_path: Path, sft: Done) -> None:
    figures = merge.work(run_of(tmp_path), done(tmp_path, sft=sft), tmp_path)
    assert answer(tmp_path / "merged", chat(QUESTION)) == TAUGHT
    assert answer(tmp_path / "merged", chat(KNOWN)) == TRUE
    assert 0 < figures["fp32_difference"] < 1e-4
    assert 0 < figures["bf16_share"] < 0.02
    assert figures["parameters"] == 172_416
    assert figures["adapter"]


def test_without_an_adapter_the_base_is_what_goes_on(bare: dict[str, Done]) -> None:
    figures = bare["merge"].figures
    assert (figures["fp32_difference"], figures["bf16_share"], figures["adapter"]) == (0.0, 0.0, False)


def test_a_merge_that_is_not_the_adapter_is_refused(tmp_path: Path, sft: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    true = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: 1.01 * true(self, adapter))
    with pytest.raises(PipelineError, match="Merging in fp32 has changed a logit") as refused:
        merge.work(run_of(tmp_path), done(tmp_path, sft=sft), tmp_path)
    assert refused.value.code == "merge_mismatch"
    assert not (tmp_path / "merged").exists()


def test_files_that_are_not_what_was_merged_are_refused(
    tmp_path: Path, sft: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as rows of the embedding that a shard has lost."""
    import torch
    from transformers import PreTrainedModel

    true: Any = PreTrainedModel.save_pretrained

    def loses_rows(self: Any, *given: Any, **named: Any) -> None:
        with torch.no_grad():
            self.model.layers[1].mlp.down_proj.weight[:16] = 0
        true(self, *given, **named)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", loses_rows)
    with pytest.raises(PipelineError, match=r"The saved model's logits differ by .*%") as refused:
        merge.work(run_of(tmp_path), done(tmp_path, sft=sft), tmp_path)
    assert refused.value.code == "merge_mismatch"


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = namedtuple("space", "f_bavail f_frsize")
    monkeypatch.setattr(os, "statvfs", lambda _: space(1024, 4096))
    with pytest.raises(PipelineError, match=r"For 172416 merged parameters 17 MiB is needed .*; 4 MiB") as refused:
        merge.work(run_of(tmp_path), done(tmp_path), tmp_path)
    assert (refused.value.code, refused.value.remedy[:11]) == ("disk_full", "Free 13 MiB")
    assert not (tmp_path / "merged").exists()


def test_a_disk_that_is_full_in_the_middle_leaves_nothing_half_written(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(PipelineError, match="not enough before it was whole") as refused:
            merge.work(run_of(tmp_path), done(tmp_path), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.code == "disk_full"
    assert not (tmp_path / "merged").exists()


def test_a_look_at_the_model_keeps_what_it_says_and_the_log_is_without_words(
    tmp_path: Path, bare: dict[str, Done]
) -> None:
    run = run_of(tmp_path)
    samples = generate.work(run, bare, tmp_path / "generate")["samples"]
    assert len(samples) == generate.PROMPTS
    assert all(sample["answer"].startswith("The ") for sample in samples)
    assert "4 held-out prompts are answered with [7, " in news_of(run).log
    assert samples[0]["answer"] not in news_of(run).log


@pytest.mark.parametrize(("weight", "told"), [(float("nan"), "are not finite"), (0.0, "with nothing")])
def test_a_model_that_computes_or_says_nothing_ends_the_job(
    tmp_path: Path, bare: dict[str, Done], weight: float, told: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(bare["merge"].folder / "merged", tmp_path / "merged")
    path = tmp_path / "merged" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], weight)
    save_file(weights, path, {"format": "pt"})
    if weight == 0.0:
        _says_only_spaces(tmp_path / "merged")
    stages = done(tmp_path, merge=Done(tmp_path, {}, "m" * 64))
    with pytest.raises(PipelineError, match=told) as refused:
        generate.work(run_of(tmp_path), stages, tmp_path / "generate")
    assert refused.value.code == "nothing_generated"


def _says_only_spaces(folder: Path) -> None:
    """Of equal logits the first token is taken: id 0, which ends the answer from now on."""
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | {"eos_token_id": [400, 0]}))
