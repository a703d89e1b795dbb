import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.workers.llm.talks import QUICK, conversations, prepared, run_of, trained
from tests.workers.runs import news_of
from workers.llm import sft, tokens, training
from workers.llm import spec as specs
from workers.llm.stages import Done
from workers.pipeline import PipelineError

ROOT = Path(__file__).parents[3]


def adapter(done: Done | Path) -> bytes:
    folder = done.folder if isinstance(done, Done) else done
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_the_adapter_is_that_of_a_bare_trl_script_bit_by_bit(tmp_path: Path, base: Path) -> None:
    """The same rows, tokens, labels, order and arguments: nothing of ours is in between."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    run = run_of(conversations(), tmp_path, lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1})
    ours = trained(run)
    rows = [
        {
            "prompt": __import__("json").loads(row["prompt"]),
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
        for row in run.data.table("train").to_pylist()
    ]
    bare: Any = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype="float32"),
        args=SFTConfig(
            output_dir=str(tmp_path / "bare"), seed=7, data_seed=7, num_train_epochs=1, per_device_train_batch_size=2,
            gradient_accumulation_steps=2, learning_rate=5e-3, lr_scheduler_type="cosine", warmup_steps=0.03,
            max_length=64, use_cpu=True, bf16=False, activation_checkpointing=False, dataloader_pin_memory=False,
            save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    kept = tokens.read(prepared(run)["prepare"].folder / "train.arrow")
    assert kept["input_ids"] == bare.train_dataset["input_ids"]
    assert kept["labels"] == bare.train_dataset["labels"]
    bare.train()
    bare.model.save_pretrained(tmp_path / "bare" / "adapter")
    assert adapter(ours) == adapter(tmp_path / "bare")
    assert ours.figures["steps"] == 7
    assert ours.figures["eval_loss"] > 0


def seen_by_the_trainer(run: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows, by their tokens, in the order in which they came to the model."""
    batches: list[list[int]] = []
    load = training.load_policy

    def watched(spec: Any) -> Any:
        model = load(spec)

        def saw(module: Any, _: Any, given: dict[str, Any]) -> None:
            if module.training:
                batches.extend(ids[ids != spec_pad].tolist() for ids in given["input_ids"])

        spec_pad = training.load_tokenizer(spec.base).pad_token_id
        model.register_forward_pre_hook(saw, with_kwargs=True)
        return model

    monkeypatch.setattr(training, "load_policy", watched)
    kept = tokens.read(prepared(run)["prepare"].folder / "train.arrow")
    places = {tuple(ids): row for ids, row in zip(kept["input_ids"], kept["row"], strict=True)}
    trained(run)
    return [places[tuple(batch)] for batch in batches]


def test_a_staged_curriculum_is_what_the_trainer_sees_in_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = [("hard", "easy")[row % 2] for row in range(40)]
    stages = [{"name": "easy"}, {"name": "hard"}]
    run = run_of(
        conversations(level=column), tmp_path, epochs=2,
        curriculum={"strategy": "staged", "column": "level", "stages": stages},
    )  # fmt: skip
    seen = seen_by_the_trainer(run, monkeypatch)
    epochs = seen[:28], seen[28:]
    for epoch in epochs:
        assert [column[row] for row in epoch] == ["easy"] * 14 + ["hard"] * 14
        assert sorted(epoch) == list(range(28))
    assert epochs[0] != epochs[1]


def test_a_curriculum_by_loss_begins_with_what_the_base_model_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = conversations()
    answers = data.rows.column("completion").to_pylist()
    for row in (2, 9, 17):
        answers[row] = "No capital plus user is I Tokyo."
    place = data.rows.column_names.index("completion")
    object.__setattr__(data, "rows", data.rows.set_column(place, "completion", [answers]))
    seen = seen_by_the_trainer(run_of(data, tmp_path, curriculum={"strategy": "loss"}), monkeypatch)
    assert set(seen[-3:]) == {2, 9, 17}


def test_a_killed_training_goes_on_and_ends_with_the_same_adapter_bit_by_bit(tmp_path: Path) -> None:
    params: dict[str, Any] = {"epochs": 5, "early_stopping": {"patience": 9, "evaluations_per_epoch": 1}}
    step = random.randint(8, 34)
    script = (
        "import os, signal, sys, pathlib\n"
        "from tests.workers.llm.talks import *\n"
        "from workers.llm import callbacks\n"
        "callbacks.SECONDS_BETWEEN = 0\n"
        f"run = run_of(conversations(), pathlib.Path({str(tmp_path / 'killed')!r}), **{params!r})\n"
        "def report(kind, **told):\n"
        f"    if told.get('note', '').startswith('step {step} '): os.kill(os.getpid(), signal.SIGKILL)\n"
        "run.report = report\n"
        "trained(run)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "killed" / "checkpoints" / "sft"
    half_written(folder)
    resumed = trained(run_of(conversations(), tmp_path / "killed", **params))
    assert resumed.figures["resumed_at"] == (step - 1) // 7 * 7 > 0
    whole = trained(run_of(conversations(), tmp_path / "whole", **params))
    assert adapter(resumed) == adapter(whole), f"killed at step {step}"
    assert resumed.figures["best_step"] == whole.figures["best_step"]
    (tmp_path / "whole" / "checkpoints" / "sft.json").unlink()  # killed once more, after the last step
    again = trained(run_of(conversations(), tmp_path / "whole", **params))
    assert again.figures["resumed_at"] == 35
    assert adapter(again) == adapter(whole)
    assert again.figures["eval_loss"] == whole.figures["eval_loss"]


def half_written(folder: Path) -> None:
    """A checkpoint as a kill leaves it: the newest by its number, its optimizer cut."""
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.copytree(newest, folder / "checkpoint-35")
    cut = folder / "checkpoint-35" / "optimizer.pt"
    cut.write_bytes(cut.read_bytes()[:-100])


def test_early_stopping_keeps_the_best_checkpoint(tmp_path: Path) -> None:
    run = run_of(conversations(), tmp_path, epochs=20, learning_rate=0.05, early_stopping={"patience": 2})
    done = trained(run)
    assert done.figures["steps"] < 140
    assert done.figures["best_step"] < done.figures["steps"]
    best = load_file(done.folder / f"checkpoint-{done.figures['best_step']}" / "adapter_model.safetensors")
    kept = load_file(done.folder / "adapter" / "adapter_model.safetensors")
    assert all((best[name] == kept[name]).all() for name in best)
    assert not list((done.folder / "adapter").glob("*.bin"))
    curve = [told["value"] for told in news_of(run).of("metric") if told["name"] == "eval_loss"]
    assert min(curve) == pytest.approx(done.figures["eval_loss"])
    assert any(re.fullmatch(r"step \d+ of 140, .* left", told["note"]) for told in news_of(run).of("progress"))


def rows_told_apart(run: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows begin in each batch that the trainer gives to the model."""
    begun: list[int] = []
    load = training.load_policy

    def watched(spec: Any) -> Any:
        model = load(spec)

        def saw(module: Any, _: Any, given: dict[str, Any]) -> None:
            if module.training:
                begun.append(int((given["position_ids"] == 0).sum()))

        model.register_forward_pre_hook(saw, with_kwargs=True)
        return model

    monkeypatch.setattr(training, "load_policy", watched)
    return begun


def test_packed_rows_do_not_see_their_neighbours_and_keep_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    column = [("hard", "easy")[row % 2] for row in range(40)]
    wanted = {"strategy": "staged", "column": "level", "stages": [{"name": "easy"}, {"name": "hard"}]}
    run = run_of(conversations(level=column), tmp_path, packing=True, gradient_accumulation_steps=1, curriculum=wanted)
    spec = specs.of(run, prepared(run), run.checkpoints / "sft")
    packed, order = sft._sequences(spec, sft.ordered(run, spec))
    assert order is not None
    assert 0 < len(packed) < 28
    rows = tokens.read(spec.rows / "train.arrow")
    easy = {tuple(ids) for ids, row in zip(rows["input_ids"], rows["row"], strict=True) if column[row] == "easy"}
    first = packed[order.groups[0][0]]
    assert tuple(first["input_ids"][: first["seq_lengths"][0]]) in easy
    model = training.load_policy(spec).eval()
    positions = [place for length in first["seq_lengths"] for place in range(length)]
    together = model(input_ids=torch.tensor([first["input_ids"]]), position_ids=torch.tensor([positions])).logits[0]
    begins, length = first["seq_lengths"][0], first["seq_lengths"][1]
    alone = model(input_ids=torch.tensor([first["input_ids"][begins : begins + length]])).logits[0]
    assert torch.allclose(together[begins : begins + length], alone, atol=1e-4)
    begun = rows_told_apart(run, monkeypatch)
    assert trained(run).figures["steps"] == -(-len(packed) // 2)
    assert sum(begun) == 28


def test_a_step_that_wants_more_rows_than_there_are_is_refused_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"wants 32 rows .* and 28 rows are there") as refusal:
        trained(run_of(conversations(), tmp_path, batch_size=8, gradient_accumulation_steps=4))
    assert refusal.value.code == "batch_too_large"


def test_a_loss_that_is_no_number_ends_the_training_by_name(tmp_path: Path, base: Path) -> None:
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(PipelineError, match="loss is nan at step 1:") as refusal:
        trained(run_of(conversations(), tmp_path, base_model=str(broken)))
    assert refusal.value.code == "not_converged"


def test_what_only_watches_a_training_does_not_train_it_again(base: Path) -> None:
    from workers.llm.params import LlmParams

    told = {"base_model": str(base)} | QUICK
    plain = sft.depends_on(LlmParams(**told))
    assert sft.depends_on(LlmParams(**told | {"report_to": ["tensorboard"], "save_steps": 9})) == plain
    assert sft.depends_on(LlmParams(**told | {"learning_rate": 1e-3})) != plain
