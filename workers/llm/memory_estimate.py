"""How much memory a LoRA training takes, as arithmetic, and how much is free here."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from workers import gpus
from workers.llm.params import LlmParams

MIB = 2**20
# Python, torch, transformers and TRL once imported (measured: 560 MB); on a GPU the context of CUDA and its libraries.
LIBRARIES_MIB = 560
CUDA_MIB = 700
BYTES_OF_WEIGHT = {"8bit": 1.0, "4bit": 0.55}  # 4 bit: NF4 with a scale to each block of 64, embeddings in bf16
BYTES_OF_TRAINED = 16  # fp32: weight, gradient, and the two moments of Adam
BYTES_OF_REFERENCE = 4  # the frozen copy of the adapter that preferences are measured against
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Shape:
    """Of a model with its adapter; counts of parameters, and the sizes that activations grow with. `keys` is how wide
    the keys of a token are in a layer, and so are its values.
    """

    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    keys: int


class Need(NamedTuple):
    stage: str
    mib: int


@dataclass(frozen=True)
class _Device:
    on_gpu: bool
    width: int  # bytes of a number that is computed with


def largest(params: LlmParams, shape: Shape, stages: Iterable[str], *, on_gpu: bool, bf16: bool) -> Need | None:
    """Of the stages that train, the one that takes most: they follow one another. None where none of them does."""
    needs = [Need(stage, estimate(params, shape, stage, on_gpu=on_gpu, bf16=bf16)) for stage in stages]
    return max(needs, key=lambda need: need.mib, default=None)


def estimate(params: LlmParams, shape: Shape, stage: str = "sft", *, on_gpu: bool, bf16: bool) -> int:
    """MiB of one process at the stage's worst step: all rows of the batch as long as max_seq_length."""
    device = _Device(on_gpu, 2 if bf16 else 4)
    weight = BYTES_OF_WEIGHT.get(params.load_in or "", device.width if on_gpu or bf16 else 4)
    used = shape.parameters * weight + shape.trainable * BYTES_OF_TRAINED
    if stage == "sft":
        used += _learning(shape, params.batch_size * params.max_seq_length, device)
    else:
        used += shape.trainable * BYTES_OF_REFERENCE + _preferring(params, shape, device)
    return round(used / MIB) + (CUDA_MIB if on_gpu else LIBRARIES_MIB)


def _preferring(params: LlmParams, shape: Shape, device: _Device) -> float:
    """DPO reads two answers a row, KTO no fewer than two rows. GRPO and RLOO first write the answers of a whole step at
    once, then learn from them batch by batch.
    """
    chosen, longest = params.preference, params.max_seq_length
    if chosen.method in ("dpo", "kto"):
        at_once = 2 * chosen.batch_size if chosen.method == "dpo" else max(2, chosen.batch_size)
        return _learning(shape, at_once * longest, device)
    written = longest + chosen.max_completion_length
    answers = chosen.batch_size * chosen.gradient_accumulation_steps
    return max(
        _learning(shape, chosen.batch_size * written, device),
        _writing(shape, answers, answers * longest, answers * written, device),
    )


def _learning(shape: Shape, tokens: int, device: _Device) -> float:
    """Activations a token and layer, after Korthikanti et al. 2022 without the scores of attention, which are not kept:
    about 16 hidden and 4 intermediate values; with activation checkpointing (on a GPU) the input of each layer, and
    one layer in full. The head's logits are computed in parts, so a 256 tokens' worth of them counts.
    """
    layer = _layer(shape, tokens, device)
    kept = layer + shape.layers * tokens * shape.hidden * device.width if device.on_gpu else shape.layers * layer
    return kept + 3 * min(tokens, 256) * shape.vocabulary * 4


def _writing(shape: Shape, answers: int, read: int, tokens: int, device: _Device) -> float:
    """Keys and values of every token and layer are kept; of what is read at first, one layer; the logits of one token
    of each answer.
    """
    cache = 2 * shape.layers * tokens * shape.keys * device.width
    return cache + _layer(shape, read, device) + 3 * answers * shape.vocabulary * 4


def _layer(shape: Shape, tokens: int, device: _Device) -> float:
    return tokens * (16 * shape.hidden + 4 * shape.intermediate) * device.width


def free(*, on_gpu: bool) -> tuple[str, int | None]:
    """The device that would train, and its free MiB; None where nobody tells. Of several GPUs the fullest one."""
    if on_gpu:
        told = [gpu["memory_free_mib"] for gpu in gpus.present() or []]
        known = [mib for mib in told if mib is not None]
        return "gpu", min(known, default=None)
    figures = [mib for mib in (_available(), _left_in_cgroup()) if mib is not None]
    return "cpu", min(figures, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable")), None)


def _left_in_cgroup() -> int | None:
    """Of a container's own limit (cgroup v2); its page cache can be taken back, so it does not count."""
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = next(int(v) for k, v in map(str.split, (CGROUP / "memory.stat").open()) if k == "file")
    except (OSError, ValueError, StopIteration):
        return None
    return None if limit == "max" else max(0, int(limit) - int(used) + cached) // MIB
