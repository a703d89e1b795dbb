"""The stage `merge`: adapter and base as one model, in fp32 on the CPU, saved as bf16.

    merged/   safetensors, tokenizer and chat template, as transformers and llama.cpp's converter read them

It is compared with what it was merged from, twice: the merge itself before it is rounded, and the files as they lie on
the disk, whose weights bf16 has rounded. Both are computed in fp32, so that what is measured is the weights.
"""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.llm import bases, disk, heldout, reference, stages
from workers.llm import tokenizer as tokenizers
from workers.llm.effective import effective
from workers.llm.params import LlmParams
from workers.llm.reference import Reference
from workers.llm.stages import Done
from workers.pipeline import PipelineError, Run

if TYPE_CHECKING:
    from torch import Tensor

    Compared = list[Tensor]

PROMPTS, POSITIONS = 8, 16  # held-out prompts, and the last positions of each, at which logits are compared
EXACT = 1e-4  # the largest difference of a logit that merging in fp32 may make
ROUNDED = 0.02  # and that rounding to bf16 may make, as a share of the logits' range
BYTES = 2  # of a parameter in bf16


def depends_on(params: LlmParams) -> dict[str, Any]:
    return {"base_model": params.base_model, "system_prompt": params.system_prompt}


def work(run: Run, done: Mapping[str, Done], folder: Path) -> Mapping[str, Any]:
    """Raises PipelineError: merge_mismatch, disk_full, base_unavailable, chat_template_missing."""
    base, adapter = bases.of(run, done["prepare"].figures), stages.policy(done)
    told, expected = _merged(run, base, adapter, folder / "merged")
    run.progress(0.7, "comparing what was saved")
    with reference.loaded(folder / "merged") as saved:
        figures = told | _rounding(expected, _compared(saved, _prompts(run, saved)))
    run.log(
        f"merged {figures['parameters']} parameters {'of base and adapter' if adapter else 'of the base alone'}: "
        f"logits differ by {figures['fp32_difference']:.2g} in fp32, by {figures['bf16_share']:.2%} of their range "
        f"as bf16, {figures['bf16_argmax']:.2%} of the likeliest tokens are the same"
    )
    return figures


def _merged(run: Run, base: Path, adapter: Path | None, folder: Path) -> tuple[dict[str, Any], "Compared"]:
    """Figures, and the logits of base and adapter, beside the files in `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    parameters = sum(weights.numel() for weights in model.parameters())
    with disk.room(folder, BYTES * parameters, f"{parameters} merged parameters"):
        run.progress(0.2, "merging")
        model, expected, difference = _merge(run, model, tokenizer, adapter)
        run.progress(0.5, "saving")
        configured = model.generation_config.eos_token_id
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(
            tokenizers.ends(tokenizer, configured)
        )
        model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="2GB")
        tokenizers.save(tokenizer, base, folder)
    architecture = model.config.architectures[0]
    del model
    gc.collect()
    return {
        "architecture": architecture,
        "parameters": parameters,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "adapter": adapter is not None,
        "fp32_difference": difference,
    }, expected


def _merge(run: Run, model: Any, tokenizer: Any, adapter: Path | None) -> tuple[Any, "Compared", float]:
    """The model in one piece, the logits of it in two, and the largest difference between the two.

    Raises PipelineError `merge_mismatch`.
    """
    if adapter is None:
        whole = reference.of(model, tokenizer)
        return model, _compared(whole, _prompts(run, whole)), 0.0
    from peft import PeftModel

    two = reference.of(PeftModel.from_pretrained(model, str(adapter)), tokenizer)
    prompts = _prompts(run, two)
    expected = _compared(two, prompts)
    merged = two.model.merge_and_unload(safe_merge=True)
    got = _compared(Reference(merged, tokenizer, two.stop), prompts)
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True))
    if not difference < EXACT:
        raise _mismatch(f"Merging in fp32 has changed a logit by {difference:.3g}; the limit is {EXACT}.")
    return merged, expected, difference


def _rounding(expected: "Compared", got: "Compared") -> dict[str, float]:
    """How far the saved weights are from base and adapter. Raises PipelineError `merge_mismatch`."""
    span = float(max(logits.max() for logits in expected) - min(logits.min() for logits in expected))
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True))
    share = difference / span
    if not share <= ROUNDED:
        raise _mismatch(f"The saved model's logits differ by {share:.1%} of their range; the limit is {ROUNDED:.0%}.")
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(expected, got, strict=True))
    return {
        "bf16_difference": difference,
        "bf16_share": share,
        "bf16_argmax": same / sum(len(logits) for logits in expected),
    }


def _prompts(run: Run, model: Reference) -> list[list[int]]:
    every = heldout.conversations(run.data, run.params.system_prompt, PROMPTS)
    return [model.prompt(conversation)[: effective(run.params).max_seq_length] for conversation in every]


def _compared(model: Reference, prompts: Sequence[list[int]]) -> "Compared":
    return [model.logits(tokens, POSITIONS) for tokens in prompts]


def _mismatch(message: str) -> PipelineError:
    return PipelineError(
        "merge_mismatch",
        message,
        "Train the adapter again: its files may be damaged, or of another base. A base that bf16 cannot hold needs "
        "another one.",
    )
