"""The parameters that are trained with: the preset's where nothing was said, half a batch after running short."""

from typing import Any

from workers.llm.params import LlmParams

CPU: dict[str, Any] = {
    "batch_size": 1,
    "gradient_accumulation_steps": 8,
    "max_seq_length": 256,
    "precision": "fp32",
}
CPU_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16}


def effective(params: LlmParams, memory_scale: float = 1.0) -> LlmParams:
    """What a user set stays; `memory_scale` 0.5 halves the batches and doubles the accumulation, so a step is as large.

    A batch of one cannot be halved: it stays as it is.
    """
    if params.preset == "cpu":
        lora = params.lora.model_copy(update=_unsaid(params.lora.model_fields_set, CPU_LORA))
        params = params.model_copy(update=_unsaid(params.model_fields_set, CPU) | {"lora": lora})
    if memory_scale >= 1:
        return params
    return params.model_copy(
        update=_halved(params.batch_size, params.gradient_accumulation_steps)
        | {"preference": params.preference.model_copy(update=_halved_preference(params))}
    )


def _unsaid(said: set[str], preset: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in preset.items() if name not in said}


def _halved(batch: int, accumulation: int) -> dict[str, int]:
    if batch == 1:
        return {}
    return {"batch_size": -(-batch // 2), "gradient_accumulation_steps": accumulation * 2}


def _halved_preference(params: LlmParams) -> dict[str, int]:
    """KTO compares the rows of a batch with each other: two are the fewest."""
    chosen = params.preference
    return _halved(chosen.batch_size, chosen.gradient_accumulation_steps) if chosen.batch_size > 2 else {}
