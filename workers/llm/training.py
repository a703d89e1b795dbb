"""What every training of a language model shares, whatever its loss: model, arguments, callbacks, and what it leaves.

A training is a function `fit(spec, report) -> figures` of a stage's module. `launch.train` calls it here, or in several
processes under accelerate, so what it needs stands in its Spec, as JSON.
"""

import os
from pathlib import Path
from typing import Any

import orjson

from app.registry.artifacts import write_durably
from workers.llm.params import LlmParams
from workers.llm.spec import Spec
from workers.pipeline import PipelineError, Reporter


def quiet() -> None:
    """No progress bars: a job's log is read line by line."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def world_size() -> int:
    """Processes that train together, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def in_bf16(params: LlmParams) -> bool:
    """`auto` is bf16 on a GPU that has it, else fp32."""
    import torch

    if params.precision != "auto":
        return params.precision == "bf16"
    return on_gpu() and bool(torch.cuda.is_bf16_supported())


def load_tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(spec: Spec) -> Any:
    """The base with `spec.adapter` to go on from, or with a fresh LoRA: a PeftModel whose adapter alone is trained.

    Pass it to a TRL trainer without a `peft_config`. The base is read in bf16 where that is what is computed in, the
    adapter is fp32 in any case. Seeds torch: a fresh adapter is drawn. Raises PipelineError quantized_needs_gpu.
    """
    from peft import PeftModel, get_peft_model
    from transformers import set_seed

    set_seed(spec.seed)
    model = load_base(spec.params, spec.base)
    if spec.adapter is not None:
        return PeftModel.from_pretrained(model, spec.adapter, is_trainable=True)
    return get_peft_model(model, lora_config(spec.params))


def load_base(params: LlmParams, base: Path) -> Any:
    """The base model in the precision that it is trained in; with `load_in` quantized, on the GPU."""
    import torch
    from transformers import AutoModelForCausalLM

    given: dict[str, Any] = {"dtype": torch.bfloat16 if in_bf16(params) else torch.float32}
    if params.load_in is not None:
        given |= {"quantization_config": _quantization(params), "device_map": {"": torch.cuda.current_device()}}
    model: Any = AutoModelForCausalLM.from_pretrained(base, **given)
    model.config.use_cache = False
    return model


def lora_config(params: LlmParams) -> Any:
    from peft import LoraConfig

    return LoraConfig(**params.lora.model_dump(), task_type="CAUSAL_LM", bias="none")


def require_quantizable(params: LlmParams) -> None:
    """Raises PipelineError `quantized_needs_gpu` where `load_in` is asked of a machine that cannot do it."""
    from importlib.util import find_spec

    if params.load_in is None or (on_gpu() and find_spec("bitsandbytes") is not None):
        return
    missing = "no GPU is there" if not on_gpu() else "the package bitsandbytes is not installed"
    raise PipelineError(
        "quantized_needs_gpu",
        f"training.load_in is {params.load_in}, but {missing}.",
        "Leave load_in out, or train on a worker with a GPU and bitsandbytes.",
    )


def arguments(spec: Spec, **given: Any) -> dict[str, Any]:
    """Arguments that every trainer of TRL 1.16 takes, as keywords of its config; `given` wins.

    Epochs, batch, accumulation, learning rate and the like of a stage come from the stage.
    """
    params, gpu = spec.params, on_gpu()
    return {
        "output_dir": str(spec.folder),
        "seed": spec.seed,
        "data_seed": spec.seed,
        "lr_scheduler_type": params.lr_scheduler_type,
        "warmup_steps": params.warmup_ratio,  # below 1 it is a share of all steps
        "bf16": in_bf16(params),
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "activation_checkpointing": gpu,
        "ddp_find_unused_parameters": False,
        "save_strategy": "steps",
        "save_steps": params.save_steps,
        "save_total_limit": 2,
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": 10,
        "logging_nan_inf_filter": False,  # a loss that is no number is an error, not a figure to be smoothed away
        "report_to": "none",
        "disable_tqdm": True,
    } | given


def callbacks(spec: Spec, report: Reporter) -> list[Any]:
    """Progress, curves, and the trackers that were asked for."""
    from workers.llm.callbacks import News
    from workers.llm.trackers import trackers

    return [News(report), *trackers(spec, report)]


def train(trainer: Any, spec: Spec) -> dict[str, Any]:
    """Trains from the newest checkpoint that is whole, saves `adapter` and the trainer's log, and answers with figures.

    Raises PipelineError not_converged.
    """
    from transformers.trainer_callback import PrinterCallback

    from workers.llm import checkpoints
    from workers.llm.callbacks import assert_finite

    trainer.remove_callback(PrinterCallback)
    resumed = checkpoints.newest_valid(spec.folder)
    result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    assert_finite("training loss", result.training_loss, result.global_step)
    history = trainer.state.log_history
    if trainer.is_world_process_zero():
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(spec.folder / "adapter")
        write_durably(spec.folder / "log_history.json", orjson.dumps(history, option=orjson.OPT_SERIALIZE_NUMPY))
    losses = [told["loss"] for told in history if "loss" in told]
    return {
        "loss": losses[-1] if losses else result.training_loss,
        "steps": result.global_step,
        "epochs": trainer.state.epoch,
        "seconds": round(result.metrics["train_runtime"], 3),
        "resumed_at": int(resumed.name.rpartition("-")[2]) if resumed else 0,
    }


def _quantization(params: LlmParams) -> Any:
    import torch
    import transformers

    BitsAndBytesConfig: Any = transformers.BitsAndBytesConfig  # noqa: N806 - a class; untyped there

    require_quantizable(params)
    if params.load_in == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
