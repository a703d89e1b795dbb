"""A dry run: what a training would do, from the architecture without its weights and the rows as they are tokenized.

Trains nothing. Refuses what `prepare` and `sft` would refuse, with the same errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.llm import bases, curriculum, launch, memory_estimate, prepare, sft, tokens, training
from workers.llm.effective import effective
from workers.llm.memory_estimate import Shape
from workers.llm.params import LlmParams
from workers.llm.tokens import Counts
from workers.pipeline import PipelineError, Run, SplitName


def plan(run: Run) -> dict[str, Any]:
    """Parameters, trainable share, steps, tokens, rows cut and left out, and MiB wanted against MiB free.

    `base_model` is what is tuned; `base`, the version that a training goes on from, is the attempt's to add. Raises
    PipelineError as the stages `prepare` and `sft` do, batch_too_large included.
    """
    training.quiet()
    params = effective(run.params, run.memory_scale)
    training.require_quantizable(params)
    prepare.require_rows(run, params)
    base = bases.resolve(params, run.shared, weights=False)
    prepare.require_context(params, base)
    counts, lengths = _counted(run, params, base)
    shape = architecture(params, base)
    taught = _taught(run, params, lengths, counts["train"].left_out)
    told = _memory(run, params, shape)
    return {
        "base_model": params.base_model,
        "parameters": shape.parameters,
        "trainable": shape.trainable,
        "trainable_share": shape.trainable / shape.parameters,
        **taught,
        "rows": {split: counted.told() for split, counted in counts.items()},
        "rows_truncated": sum(counted.cut for counted in counts.values()),
        "rows_left_out": sum(counted.left_out for counted in counts.values()),
        "preference_rows": run.preference.counts().get("train", 0) if run.preference else 0,
        "processes": launch.processes_of(params),
        "memory": told,
        "seconds": None,
        "effective": params.model_dump(mode="json"),
        "warnings": _warnings(run, params, counts, told),
    }


def architecture(params: LlmParams, base: Path) -> Shape:
    """Base and adapter as they would be built, on torch's meta device: shapes without a byte of memory.

    Raises PipelineError `adapter_mismatch` where target_modules names no layer of the base, `base_unavailable` where
    transformers does not know the architecture.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config: Any = AutoConfig.from_pretrained(base)
        with torch.device("meta"):
            build: Any = AutoModelForCausalLM
            model = build.from_config(config)
    except (ValueError, KeyError) as error:
        raise PipelineError(
            "base_unavailable",
            f"transformers cannot build {params.base_model}: {str(error).splitlines()[0]}",
            "Take a base model whose architecture this worker's transformers knows, or upgrade it.",
        ) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    wrapped = _wrapped(params, model, get_peft_model)
    text = config.get_text_config()
    return Shape(
        parameters=parameters,
        trainable=sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        keys=_keys(text),
    )


def _keys(text: Any) -> int:
    """A head may be wider than its share of the hidden size, and several heads may share one's keys and values."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(heads * width)


def trained(run: Run, params: LlmParams) -> list[str]:
    """The stages that train, of those that are switched on and have what to learn from."""
    on = {"sft": True, "preference": run.preference is not None}
    return [stage for stage, has_rows in on.items() if has_rows and stage in params.stages]


def _wrapped(params: LlmParams, model: Any, wrap: Any) -> Any:
    try:
        return wrap(model, training.lora_config(params), low_cpu_mem_usage=True)
    except ValueError as error:
        raise PipelineError(
            "adapter_mismatch",
            f"lora.target_modules {params.lora.target_modules} does not fit {params.base_model}:"
            f" {str(error).splitlines()[0][:300]}",
            "Name linear layers of the base, such as q_proj and v_proj, or say all-linear.",
        ) from error


def _counted(run: Run, params: LlmParams, base: Path) -> tuple[dict[SplitName, Counts], list[tuple[int, int]]]:
    """Rows by split, and (row, tokens) of those that would be trained on."""
    tokenizer = training.load_tokenizer(base)
    tokens.load_template(tokenizer, params.base_model)
    prepare.require_modelfile(params, base, tokenizer)
    counts = {split: Counts() for split in prepare.SPLITS}
    lengths: list[tuple[int, int]] = []
    for split in prepare.SPLITS:
        for batch in prepare.rows_of(run, params, tokenizer, split, counts[split]):
            if split == "train":
                lengths += zip(batch["row"].to_pylist(), batch["tokens"].to_pylist(), strict=True)
    prepare.check(run, params, counts)
    return counts, lengths


def _taught(run: Run, params: LlmParams, lengths: list[tuple[int, int]], left_out: int) -> dict[str, Any]:
    """Rows in their order, steps and tokens of the SFT; all 0 where it is not among what is done."""
    if "sft" not in params.stages or (run.stages is not None and "sft" not in run.stages):
        return {"steps": 0, "epochs": 0.0, "tokens": 0, "rows_trained_on": 0, "curriculum": {}}
    wanted = params.curriculum
    column = curriculum.column_of(run.data.table("train"), wanted.column, [row for row, _ in lengths])
    held = [length for _, length in lengths]
    # How hard rows are changes their order, not their number: the base model is not asked in a dry run.
    order = curriculum.arrange(wanted, held, column, lambda places: [0.0] * len(places), run.seed, run.log)
    chosen = [min(held[i], params.max_seq_length) for i in (order.places if order else range(len(held)))]
    sequences = -(-sum(chosen) // params.max_seq_length) if params.packing else len(chosen)
    per_epoch = sft.steps_in_epoch(params, sequences, launch.processes_of(params), left_out=left_out)
    steps = sft.steps(params, per_epoch)
    return {
        "steps": steps,
        "epochs": round(steps / per_epoch, 4),
        "tokens": round(sum(chosen) * steps / per_epoch),
        "rows_trained_on": len(chosen),
        "curriculum": dict(curriculum.told(order)),
    }


def _memory(run: Run, params: LlmParams, shape: Shape) -> dict[str, Any]:
    """Of the stage that wants most: on each GPU, or in the machine's memory for all processes together."""
    device, free = memory_estimate.free(on_gpu=training.on_gpu())
    on_gpu, bf16 = device == "gpu", training.in_bf16(params)
    need = memory_estimate.largest(params, shape, trained(run, params), on_gpu=on_gpu, bf16=bf16)
    wanted = need.mib * (1 if on_gpu else launch.processes_of(params)) if need else None
    return {
        "device": device,
        "stage": need.stage if need else None,
        "estimate_mib": wanted,
        "free_mib": free,
        "enough": None if free is None or wanted is None else wanted <= free,
    }


def _warnings(run: Run, params: LlmParams, counts: Mapping[SplitName, Counts], memory: Mapping[str, Any]) -> list[str]:
    cut = sum(counted.cut for counted in counts.values())
    left_out = sum(counted.left_out for counted in counts.values())
    marked = sum(counted.marked for counted in counts.values())
    longest = max(counted.longest for counted in counts.values())
    held = run.data.counts()
    said = {
        f"{cut} rows lose their end at max_seq_length {params.max_seq_length}; the longest has {longest} tokens": cut,
        f"{left_out} rows are left out, as none of their answer fits": left_out,
        f"the stage {memory['stage']} is estimated to want {memory['estimate_mib']} MiB, and"
        f" {memory['free_mib']} MiB are free on the {memory['device']}": memory["enough"] is False,
        f"{marked} rows have in them what the chat template tells speakers apart by, and are learnt so": marked,
        "no validation rows: the loss on unseen rows is not known": not counts["validation"].rows,
        "no holdout rows: the version cannot be judged": not held.get("holdout"),
        "no feedback yet that preference learning could start from: the stage preference is skipped": "preference"
        in params.stages
        and "preference" in run.params.model_fields_set
        and run.preference is None
        and run.stages is None,
        "no GPU is there: training.preset cpu lowers what only a GPU can pay": memory["device"] == "cpu"
        and params.preset is None,
    }
    return [warning for warning, holds in said.items() if holds]
