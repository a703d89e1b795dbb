"""The stage `preference`: the adapter that the SFT left, moved towards what is preferred. The SFT policy is the
reference that it stays near (`beta`); TRL keeps a frozen copy of the adapter for it.
"""

import importlib
import math
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from app.registry.artifacts import write_durably
from workers.llm import launch, preferred, rewards, training
from workers.llm import spec as specs
from workers.llm.params import LlmParams, PreferenceParams
from workers.llm.preferred import Row, Selection
from workers.llm.spec import Spec
from workers.llm.stages import Done, policy
from workers.pipeline import Reporter, Run

# Of TRL's figures, those that are recorded, as they stood at the end.
RECORDED = (
    "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected", "reward", "reward_std", "kl",
    "eval_loss", "eval_rewards/accuracies", "eval_rewards/margins",
)  # fmt: skip
LONGEST_LOGGING_STEPS = 10


def depends_on(params: LlmParams) -> dict[str, Any]:
    names = {"preset", "max_seq_length", "lr_scheduler_type", "warmup_ratio", "precision", "load_in", "lora"}
    return params.model_dump(mode="json", include={*names, "preference", "system_prompt"})


def work(run: Run, done: Mapping[str, Done], folder: Path) -> Mapping[str, Any]:
    """Leaves `folder/adapter`. Figures: loss, steps, rows and those left out, rewards as TRL measures them.

    Raises PipelineError preference_data_unfit, reward_without_reference, insufficient_data, batch_indivisible,
    judge_unreachable, not_converged, out_of_memory.
    """
    spec = specs.of(run, done, folder, adapter=policy(done))
    selection = preferred.select(run, spec.params, training.load_tokenizer(spec.base))
    chosen = run.params.preference
    run.log(f"{chosen.method} on {len(selection.train)} rows; {selection.too_long} are too long and left out")
    if chosen.method in ("grpo", "rloo"):
        preferred.require_whole_groups(chosen, launch.processes_of(spec.params), len(selection.train))
        first = selection.train[0]
        rewards.try_out(chosen.reward, first["prompt"], first["reference"])
    write_durably(folder / "rows.json", orjson.dumps(_in_order(selection, run.seed)))
    figures = launch.train(run, "workers.llm.preference", spec)
    return {"method": chosen.method, **selection.figures, **figures}


def fit(spec: Spec, report: Reporter) -> dict[str, Any]:
    """One training, from the newest checkpoint that is whole; `Spec` says all that it is told."""
    from datasets import Dataset

    rows: dict[str, list[Row]] = orjson.loads((spec.folder / "rows.json").read_bytes())
    held_out = rows["validation"] if spec.params.preference.method in ("dpo", "kto") else []
    trainer = _trainer(
        spec,
        rows["train"],
        model=training.load_policy(spec),
        train_dataset=Dataset.from_list(rows["train"]),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=training.load_tokenizer(spec.base),
        callbacks=training.callbacks(spec, report),
    )
    figures = training.train(trainer, spec)
    # The frozen reference is no part of the result, and whoever loads the adapter would meet it.
    shutil.rmtree(spec.folder / "adapter" / "ref", ignore_errors=True)
    told = trainer.evaluate() if held_out else {}
    return figures | _recorded([*trainer.state.log_history, told])


def _trainer(spec: Spec, rows: Sequence[Row], **common: Any) -> Any:
    trl: Any = importlib.import_module("trl")
    chosen, given = spec.params.preference, _arguments(spec, len(rows))
    if chosen.method == "dpo":
        return trl.DPOTrainer(args=trl.DPOConfig(**given, max_length=None), **common)
    if chosen.method == "kto":
        # It compares each row with its neighbour in the batch, so the order must stand.
        given |= _weights(sum(row["label"] for row in rows), len(rows)) | {"train_sampling_strategy": "sequential"}
        return trl.KTOTrainer(args=trl.KTOConfig(**given, max_length=None), **common)
    given |= {"num_generations": chosen.num_generations, "max_completion_length": chosen.max_completion_length}
    reward = rewards.function_of(chosen.reward)
    if chosen.method == "grpo":
        return trl.GRPOTrainer(reward_funcs=[reward], args=trl.GRPOConfig(**given), **common)
    return trl.RLOOTrainer(reward_funcs=[reward], args=trl.RLOOConfig(**given), **common)


def _arguments(spec: Spec, rows: int) -> dict[str, Any]:
    chosen = spec.params.preference
    batch, accumulation = _batch(chosen)
    tried = chosen.num_generations if chosen.method in ("grpo", "rloo") else 1
    steps = math.ceil(chosen.epochs * rows * tried / (batch * accumulation * training.world_size()))
    return training.arguments(
        spec,
        beta=chosen.beta,
        num_train_epochs=chosen.epochs,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=chosen.learning_rate,
        logging_steps=max(1, min(LONGEST_LOGGING_STEPS, steps // 10)),
        # Policy and reference are compared: noise in one of them would be taken for a preference.
        disable_dropout=True,
    )


def _batch(chosen: PreferenceParams) -> tuple[int, int]:
    """Rows at once, and how often before a step. KTO needs two at once; halving an odd batch must keep groups whole."""
    batch, accumulation = chosen.batch_size, chosen.gradient_accumulation_steps
    if chosen.method == "kto" and batch == 1:
        return 2, math.ceil(accumulation / 2)
    if chosen.method in ("grpo", "rloo"):
        while batch * accumulation * training.world_size() % chosen.num_generations:
            accumulation += 1
    return batch, accumulation


def _weights(accepted: int, rows: int) -> dict[str, float]:
    """So that accepted and rejected rows weigh between 1:1 and 4:3, as KTO's authors advise."""
    rejected = rows - accepted
    if not accepted or not rejected or rejected <= accepted <= rejected * 4 / 3:
        return {}
    if accepted < rejected:
        return {"desirable_weight": rejected / accepted}
    return {"undesirable_weight": accepted * 3 / (rejected * 4)}


def _in_order(selection: Selection, seed: int) -> dict[str, list[Row]]:
    """Mixed, the same way each time: KTO reads them as they stand."""
    by_split = {"train": selection.train, "validation": selection.validation}
    return {split: random.Random(seed).sample(rows, len(rows)) for split, rows in by_split.items()}


def _recorded(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    told = {name: [entry[name] for entry in history if name in entry] for name in RECORDED}
    return {name.replace("/", "_"): float(values[-1]) for name, values in told.items() if values}
