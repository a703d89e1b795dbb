"""How much memory a LoRA training takes, as arithmetic, and how much is free here."""

from dataclasses import dataclass
from pathlib import Path

from workers import gpus
from workers.llm.params import LlmParams

MIB = 2**20
# Python, torch, transformers and TRL once imported (measured: 560 MB); on a GPU the context of CUDA and its libraries.
LIBRARIES_MIB = 560
CUDA_MIB = 700
BYTES_OF_WEIGHT = {"8bit": 1.0, "4bit": 0.55}  # 4 bit: NF4 with a scale to each block of 64, embeddings in bf16
BYTES_OF_TRAINED = 16  # fp32: weight, gradient, and the two moments of Adam
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Shape:
    """Of a model with its adapter; counts of parameters, and the sizes that activations grow with."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


def estimate(params: LlmParams, shape: Shape, *, on_gpu: bool, bf16: bool) -> int:
    """MiB at the worst step: all rows of the batch as long as max_seq_length.

    Activations a token and layer, after Korthikanti et al. 2022 without the scores of attention, which are not kept:
    about 16 hidden and 4 intermediate values; with activation checkpointing (on a GPU) the input of each layer, and
    one layer in full. The head's logits are computed in parts, so a 256 tokens' worth of them counts.
    """
    width = 2 if bf16 else 4
    weight = BYTES_OF_WEIGHT.get(params.load_in or "", width if on_gpu or bf16 else 4)
    tokens = params.batch_size * params.max_seq_length
    layer = tokens * (16 * shape.hidden + 4 * shape.intermediate) * width
    kept = layer + shape.layers * tokens * shape.hidden * width if on_gpu else shape.layers * layer
    logits = 3 * min(tokens, 256) * shape.vocabulary * 4
    used = shape.parameters * weight + shape.trainable * BYTES_OF_TRAINED + kept + logits
    return round(used / MIB) + (CUDA_MIB if on_gpu else LIBRARIES_MIB)


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
