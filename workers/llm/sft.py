"""Stage `sft`: a LoRA adapter, learnt from answers by TRL's SFTTrainer, in the order of a curriculum.

The loss counts the tokens of a row's last answer and no others. Killed anywhere, the next attempt goes on from the
newest whole checkpoint, and ends with the same adapter, bit by bit. Leaves `adapter/` and `log_history.json`.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from workers.llm import curriculum, launch, tokens, training
from workers.llm import spec as specs
from workers.llm.curriculum import Order
from workers.llm.effective import effective
from workers.llm.params import LlmParams
from workers.llm.spec import Spec
from workers.llm.stages import Done
from workers.pipeline import PipelineError, Reporter, Run

# What changes the adapter; how often it is saved and who is told of it do not.
LEARNT_FROM = (
    "epochs", "max_steps", "batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_ratio",
    "lr_scheduler_type", "packing", "precision", "load_in", "lora", "curriculum", "early_stopping", "processes",
)  # fmt: skip
EVALUATIONS = 20  # at most, where nothing stops early: each reads all validation rows
PACKED_WINDOWS = 10  # an order that is no stages is packed in so many parts, so that it stays one


def depends_on(params: LlmParams) -> dict[str, Any]:
    return effective(params).model_dump(mode="json", include=set(LEARNT_FROM))


def work(run: Run, done: Mapping[str, Done], folder: Path) -> dict[str, Any]:
    """Raises PipelineError: batch_too_large, curriculum_mismatch, not_converged, out_of_memory, quantized_needs_gpu."""
    spec = specs.of(run, done, folder, left_out=done["prepare"].figures["left_out"])
    training.require_quantizable(spec.params)
    order = ordered(run, spec)
    figures = launch.train(run, "workers.llm.sft", spec)
    learnt = done["prepare"].figures["tokens"] if order is None else _tokens(spec, order)
    return figures | {"tokens": round(learnt * figures["epochs"]), "curriculum": dict(curriculum.told(order))}


def ordered(run: Run, spec: Spec) -> Order | None:
    """The curriculum's order, found once: `order.json` of the stage's folder."""
    kept = spec.folder / "order.json"
    if kept.exists():
        return Order.read(kept)
    rows, wanted = tokens.read(spec.rows / "train.arrow"), spec.params.curriculum
    column = curriculum.column_of(run.data.table("train"), wanted.column, rows["row"])
    order = curriculum.arrange(
        wanted, rows["tokens"], column, lambda places: _losses(run, spec, rows, places), run.seed, run.log
    )
    if order is not None:
        order.write(kept)
    return order


def fit(spec: Spec, report: Reporter) -> dict[str, Any]:
    """The training itself, in each of its processes."""
    from transformers import EarlyStoppingCallback
    from trl.trainer.sft_config import SFTConfig

    from workers.llm.ordered import OrderedTrainer

    order = Order.read(spec.folder / "order.json") if (spec.folder / "order.json").exists() else None
    rows, order = _sequences(spec, order)
    sequences, left_out = len(order.places) if order else len(rows), spec.extra.get("left_out", 0)
    per_epoch = steps_in_epoch(spec.params, sequences, training.world_size(), left_out=left_out)
    held_out = tokens.read(spec.rows / "validation.arrow").select_columns(["input_ids", "labels"])
    stopping = spec.params.early_stopping
    trainer = OrderedTrainer(
        model=training.load_policy(spec),
        args=SFTConfig(**training.arguments(spec, **schedule(spec.params, per_epoch, evaluated=len(held_out) > 0))),
        train_dataset=rows,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=training.load_tokenizer(spec.base),
        callbacks=training.callbacks(spec, report)
        + ([EarlyStoppingCallback(early_stopping_patience=stopping.patience)] if stopping else []),
        order=order,
    )
    figures = training.train(trainer, spec)
    return figures | _validated(trainer, evaluated=len(held_out) > 0)


def schedule(params: LlmParams, per_epoch: int, *, evaluated: bool) -> dict[str, Any]:
    """SFTConfig's words for how long, how much at once, and how often it is looked at.

    Early stopping keeps the best of its evaluations, so each of them is a checkpoint.
    """
    told: dict[str, Any] = {
        "num_train_epochs": params.epochs,
        "max_steps": params.max_steps or -1,
        "per_device_train_batch_size": params.batch_size,
        "per_device_eval_batch_size": params.batch_size,
        "gradient_accumulation_steps": params.gradient_accumulation_steps,
        "learning_rate": params.learning_rate,
        "logging_steps": max(1, min(10, steps(params, per_epoch) // 10)),
        "max_length": params.max_seq_length,
        "packing": params.packing,
        "eval_packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},  # `prepare` has done it
    }
    stopping = params.early_stopping
    if stopping is not None:
        each = max(1, per_epoch // stopping.evaluations_per_epoch)
        best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": False}
        return told | best | {"eval_strategy": "steps", "eval_steps": each, "save_steps": each}
    if not evaluated:
        return told
    return told | {"eval_strategy": "steps", "eval_steps": max(per_epoch, -(-steps(params, per_epoch) // EVALUATIONS))}


def steps_in_epoch(params: LlmParams, sequences: int, processes: int, *, left_out: int = 0) -> int:
    """Optimizer steps, the last one with what is left over. Raises PipelineError `batch_too_large`; `left_out` rows are
    not among the sequences, as none of their answer fits."""
    at_once = params.batch_size * params.gradient_accumulation_steps * processes
    if at_once > sequences:
        several = f" × {processes} processes" if processes > 1 else ""
        packed = " packed sequences" if params.packing else " rows"
        cut = f"; {left_out} rows are left out, as max_seq_length {params.max_seq_length} ends before their answer"
        lower = f"ower batch_size or gradient_accumulation_steps to {sequences} together, or add rows."
        raise PipelineError(
            "batch_too_large",
            f"One step wants {at_once} rows (batch_size {params.batch_size} × gradient_accumulation_steps"
            f" {params.gradient_accumulation_steps}{several}), and {sequences}{packed} are there"
            f"{cut if left_out else ''}.",
            f"Raise training.max_seq_length, which is the likely cause; or l{lower}" if left_out else f"L{lower}",
        )
    batches = -(-sequences // (params.batch_size * processes))
    return -(-batches // params.gradient_accumulation_steps)


def steps(params: LlmParams, per_epoch: int) -> int:
    """Of the whole training, if nothing stops it early."""
    return params.max_steps or -int(-(params.epochs * per_epoch) // 1)


def _sequences(spec: Spec, order: Order | None) -> tuple[Any, Order | None]:
    """What the trainer reads: token rows, or those packed: stage by stage, so that the order survives."""
    rows = tokens.read(spec.rows / "train.arrow").select_columns(["input_ids", "labels"])
    if not spec.params.packing:
        return rows, order
    if order is None:
        return _packed(rows, list(range(len(rows))), spec.params.max_seq_length), None
    groups = order.groups if order.shuffled else _windows(order.places)
    return _packed_in_order(rows, groups, order, spec.params.max_seq_length)


def _packed_in_order(rows: Any, groups: list[list[int]], order: Order, longest: int) -> tuple[Any, Order]:
    from datasets import concatenate_datasets

    packed = [_packed(rows, group, longest) for group in groups if group]
    ends = [0]
    for part in packed:
        ends.append(ends[-1] + len(part))
    places = [list(range(first, end)) for first, end in pairwise(ends)]
    return concatenate_datasets(packed), Order(places, [str(i) for i in range(len(places))], order.shuffled)


def _packed(rows: Any, places: list[int], longest: int) -> Any:
    from trl.data_utils import pack_dataset

    chosen = rows.select(places, keep_in_memory=True).flatten_indices(keep_in_memory=True)
    return pack_dataset(chosen, longest, "bfd", {"keep_in_memory": True})


def _windows(places: list[int]) -> list[list[int]]:
    size = -(-len(places) // PACKED_WINDOWS)
    return [places[first : first + size] for first in range(0, len(places), size)]


def _validated(trainer: Any, *, evaluated: bool) -> dict[str, Any]:
    """The validation loss of what is kept: of the best checkpoint, or of the last step."""
    history = [told for told in trainer.state.log_history if "eval_loss" in told]
    if trainer.args.load_best_model_at_end and history:
        return {"eval_loss": trainer.state.best_metric, "best_step": trainer.state.best_global_step}
    last = trainer.state.global_step
    if not evaluated:
        return {"eval_loss": None, "best_step": last}
    if not history or history[-1]["step"] != last:
        history.append(trainer.evaluate())
    return {"eval_loss": history[-1]["eval_loss"], "best_step": last}


def _tokens(spec: Spec, order: Order) -> int:
    lengths = tokens.read(spec.rows / "train.arrow")["tokens"]
    return sum(min(lengths[place], spec.params.max_seq_length) for place in order.places)


def _losses(run: Run, spec: Spec, rows: Any, places: list[int]) -> list[float]:
    from workers.llm import difficulty

    return difficulty.losses(
        spec.params, spec.base, rows, places, lambda n: run.progress(0.0, f"ranks rows by loss: {n} of {len(places)}")
    )
