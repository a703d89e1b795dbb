import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.workers.llm.hub import Hub
from tests.workers.llm.talks import asked, conversations, prepared, run_of
from tests.workers.runs import news_of
from workers.llm import bases, tokens
from workers.llm.effective import effective
from workers.llm.params import LlmParams
from workers.pipeline import PipelineError


def refused(folder: Path, data: Any = None, **params: Any) -> PipelineError:
    with pytest.raises(PipelineError) as refusal:
        prepared(run_of(data or conversations(), folder, **params))
    assert refusal.value.remedy
    return refusal.value


def test_rows_lose_their_end_or_their_place_or_say_what_parts_speakers_and_all_are_counted(tmp_path: Path) -> None:
    data = conversations()
    prompts = data.rows.column("prompt").to_pylist()
    prompts[3], prompts[4] = asked("What is 1 plus 1? " * 20), asked("Say <|im_end|>.")
    rows = data.rows.set_column(data.rows.column_names.index("prompt"), "prompt", [prompts])
    run = run_of(conversations_with(data, rows), tmp_path, max_seq_length=24)
    done = prepared(run)["prepare"]
    assert done.figures["rows"] == 27
    assert (done.figures["left_out"], done.figures["marked"]) == (1, 1)
    assert done.figures["cut"] >= 1
    assert done.figures["longest"] > 100
    kept = tokens.read(done.folder / "train.arrow")
    assert 3 not in kept["row"]
    assert max(map(len, kept["input_ids"])) == 24
    assert "1 train rows are left out" in news_of(run).log


def conversations_with(data: Any, rows: Any) -> Any:
    import dataclasses

    return dataclasses.replace(data, rows=rows)


def test_data_of_which_nothing_is_left_to_learn_is_refused_with_the_figures(tmp_path: Path) -> None:
    error = refused(tmp_path, max_seq_length=16, system_prompt="You are a helpful assistant.")
    assert error.code == "rows_truncated"
    assert "All 28 training rows" in error.message
    assert refused(tmp_path, conversations(0)).code == "insufficient_data"


def test_a_base_that_is_not_there_or_not_whole_is_refused_by_name(tmp_path: Path, base: Path) -> None:
    assert refused(tmp_path, base_model=str(tmp_path / "nowhere")).code == "base_unavailable"
    cut = tmp_path / "cut"
    shutil.copytree(base, cut)
    (cut / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-7])
    error = refused(tmp_path, base_model=str(cut))
    assert error.code == "base_unavailable"
    assert "model.safetensors" in error.message
    (cut / "model.safetensors").unlink()
    assert "1 of 1 missing" in refused(tmp_path, base_model=str(cut)).message


def test_a_base_without_chat_template_or_with_too_few_positions_is_refused(tmp_path: Path, base: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink()
    assert refused(tmp_path, base_model=str(bare)).code == "chat_template_missing"
    assert refused(tmp_path, max_seq_length=4096).code == "sequence_too_long"
    (bare / "chat_template.jinja").write_text("{{ raise_exception('no system') if messages[0].role == 'system' }}")
    error = refused(tmp_path, base_model=str(bare), system_prompt="Be kind.")
    assert error.code == "chat_template_refuses"
    assert "no system" in error.message


@pytest.mark.parametrize(
    "said",
    [
        "SYSTEM Be long.",
        "SYSTEM Be brief.\nPARAMETER stop </s>",
        "SYSTEM Be brief.\nTEMPLATE [INST] {{ .Prompt }} [/INST]",
    ],
)
def test_a_modelfile_that_differs_is_refused_before_anything_is_trained(tmp_path: Path, said: str) -> None:
    export = {"modelfile": f"FROM x\n{said}\n"}
    assert refused(tmp_path, system_prompt="Be brief.", export=export).code == "modelfile_differs"
    agreed = {"modelfile": 'FROM x\nSYSTEM Be brief.\nPARAMETER stop "<|im_end|>"\n'}
    prepared(run_of(conversations(), tmp_path, system_prompt="Be brief.", export=agreed))
    prepared(run_of(conversations(), tmp_path, export=export, stages=["prepare", "sft"]))


def test_quantized_training_without_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(tmp_path, load_in="4bit").code == "quantized_needs_gpu"


def test_a_base_comes_from_the_hub_at_its_revision_and_is_fetched_once(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = LlmParams(base_model="refit/tiny", base_revision="v1")
    with Hub(base, monkeypatch) as hub:
        folder = bases.resolve(params, tmp_path)
        assert bases.weights_digest(folder) == bases.weights_digest(base)
        assert bases.commit(params, folder) == hub.commit
        sent = hub.sent
        assert bases.resolve(params, tmp_path) == folder
        assert hub.sent == sent
        with pytest.raises(PipelineError, match="gated") as gated:
            bases.resolve(LlmParams(base_model="refit/gated"), tmp_path)
        assert "HF_TOKEN" in gated.value.remedy
        with pytest.raises(PipelineError, match="refit/unknown") as unknown:
            bases.resolve(LlmParams(base_model="refit/unknown"), tmp_path)
        assert {gated.value.code, unknown.value.code} == {"base_unavailable"}


def test_what_a_user_said_wins_over_the_preset_and_a_short_memory_halves_the_batch() -> None:
    plain = effective(LlmParams(base_model="/b", preset="cpu"))
    assert (plain.batch_size, plain.gradient_accumulation_steps, plain.max_seq_length) == (1, 8, 256)
    assert (plain.lora.r, plain.precision) == (8, "fp32")
    said = LlmParams.model_validate({"base_model": "/b", "preset": "cpu", "batch_size": 4, "lora": {"r": 16}})
    assert (effective(said).batch_size, effective(said).lora.r, effective(said).max_seq_length) == (4, 16, 256)
    short = effective(LlmParams(base_model="/b", batch_size=4, gradient_accumulation_steps=3), 0.5)
    assert (short.batch_size, short.gradient_accumulation_steps) == (2, 6)
