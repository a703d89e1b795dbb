"""An encoder by its name: a folder of files as Hugging Face keeps them, or a model there.

Code that lies beside the weights is run where the definition trusts it, on the worker, to export the encoder; what is
published and served is ONNX.

What stands in the folder says how it is used: `modules.json` and `1_Pooling/config.json` (sentence-transformers) which
pooling, `sentence_bert_config.json` how long a text may be.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from workers.pipeline import PipelineError

NEEDED = ("config.json", "tokenizer.json", "model.safetensors")
# Of a model on the hub: its description, its tokenizer and its weights in the one format that is not executable.
FETCHED = ["*.json", "*/config.json", "model.safetensors"]
CODE = ["*.py"]
# What encoders were trained to see before a text that is to be classified.
PREFIXES = {"nomic-embed-text": "classification: ", "e5-": "query: ", "multilingual-e5": "query: "}
LONGEST_WINDOW = 8_192

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class Encoder:
    """`weights` is the sha256 of model.safetensors; `window` counts tokens."""

    name: str
    folder: Path
    weights: str
    dimension: int
    window: int
    pooling: Pooling
    pad: int
    with_code: bool = False


def find(name: str, revision: str | None = None, *, with_code: bool = False) -> Encoder:
    """Raises PipelineError `encoder_unavailable`, `encoder_incomplete` or `encoder_unsupported`."""
    folder = Path(name) if Path(name).is_absolute() else _from_hub(name, revision, with_code)
    if not folder.is_dir():
        raise PipelineError(
            "encoder_unavailable", f"There is no folder {folder}.", "Correct training.encoder; workers must see it."
        )
    for needed in NEEDED:
        if not (folder / needed).is_file():
            raise PipelineError(
                "encoder_incomplete",
                f"The encoder {name} has no file {needed} in {folder}.",
                "Copy the whole folder again, or name the encoder by its Hugging Face id.",
            )
    config = _json(folder / "config.json")
    with (folder / "model.safetensors").open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return Encoder(
        name=name,
        folder=folder,
        weights=weights,
        dimension=config["hidden_size"],
        window=_window(folder, config),
        pooling=_pooling(name, folder),
        pad=config.get("pad_token_id") or 0,
        with_code=with_code,
    )


def prefix_of(name: str) -> str:
    """What the encoder wants before each text; nothing for those that nobody has told us of."""
    return next((prefix for part, prefix in PREFIXES.items() if part in name.lower()), "")


def _from_hub(name: str, revision: str | None, with_code: bool) -> Path:
    if with_code and revision is None:
        raise PipelineError(
            "encoder_unsupported",
            f"The code of {name} is trusted in no revision of it: its newest may be anybody's.",
            "Name the commit that you looked at in training.encoder_revision.",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FETCHED + CODE * with_code))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise PipelineError(
            "encoder_unavailable",
            f"The encoder {name} cannot be fetched from Hugging Face ({type(error).__name__}).",
            "Give the workers a network or a cache that has it (HF_HOME), or name a local folder in training.encoder.",
        ) from error


def _window(folder: Path, config: dict[str, Any]) -> int:
    told = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    positions = config.get("max_position_embeddings") or config.get("n_positions") or LONGEST_WINDOW
    return min(told or positions, positions, LONGEST_WINDOW)


def _pooling(name: str, folder: Path) -> Pooling:
    """Mean where the folder says nothing."""
    config = _json(folder / "1_Pooling" / "config.json")
    modes = {
        key.removeprefix("pooling_mode_")
        for key, on in config.items()
        if key.startswith("pooling_mode_") and on is True
    }
    told = {config["pooling_mode"]} if isinstance(config.get("pooling_mode"), str) else modes
    if told <= {"mean", "mean_tokens"}:
        return "mean"
    if told <= {"cls", "cls_token"}:
        return "cls"
    raise PipelineError(
        "encoder_unsupported",
        f"The encoder {name} pools by {', '.join(sorted(told))}; mean and cls are known.",
        "Choose another encoder.",
    )


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return found
