"""The base model: a folder that is there already, or a repository of the Hugging Face hub, fetched once a worker.

Only safetensors are read: weights as pickles would be code of their author's.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Never

import orjson

from workers.llm.checkpoints import complete
from workers.llm.params import LlmParams
from workers.pipeline import PipelineError, Run

DESCRIPTION = ["*.json", "*.jinja", "tokenizer.model", "*.txt"]
WEIGHTS = ["*.safetensors"]
NAME_IT = "Name a folder that this worker can read by its absolute path, or a repository of the hub in base_model."


def resolve(params: LlmParams, shared: Path, *, weights: bool = True) -> Path:
    """The base's folder, checked to be whole; without `weights` only what describes it is fetched and looked at.

    Raises PipelineError `base_unavailable`.
    """
    local = params.base_model.startswith("/")
    folder = Path(params.base_model) if local else _fetched(params, shared, weights=weights)
    if not (folder / "config.json").is_file():
        _unavailable(params, f"no config.json is in {folder}", NAME_IT)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        _unavailable(params, f"no tokenizer is in {folder}", "Save the tokenizer beside the model: save_pretrained.")
    if weights or local:
        _require_weights(params, folder)
    return folder


def commit(params: LlmParams, folder: Path) -> str | None:
    """Of the hub, whose snapshots are folders named by it: a branch may have moved on by the next attempt."""
    return None if params.base_model.startswith("/") else folder.name


def of(run: Run, prepared: Mapping[str, Any]) -> Path:
    """The folder that `prepare` resolved, by its figures; fetched again, at its commit, where this worker lacks it."""
    folder = Path(prepared["base_folder"])
    if folder.is_dir():
        return folder
    return resolve(run.params.model_copy(update={"base_revision": prepared["revision"]}), run.shared)


def fingerprint(params: LlmParams) -> dict[str, Any]:
    """What a stage depends on: a folder's weights by digest, since a folder may be written anew; a repository by name.

    Never raises: what is not there is told where it is needed.
    """
    told = {"base_model": params.base_model, "base_revision": params.base_revision}
    folder = Path(params.base_model)
    if not folder.is_absolute() or not folder.is_dir():
        return told
    return told | {"weights": weights_digest(folder), "tokenizer": _described(folder)}


def weights_digest(folder: Path) -> str:
    """sha256 of the one safetensors file; of several, of their names and digests in order."""
    files = sorted(folder.glob("*.safetensors"))
    digests = [_sha256(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if len(digests) == 1:
        return digests[0]
    told = [[file.name, digest] for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256(orjson.dumps(told)).hexdigest()


@lru_cache(maxsize=256)
def _sha256(path: str, _size: int, _mtime: int) -> str:
    """Once a process for one content: gigabytes take seconds."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja"):
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()


def _require_weights(params: LlmParams, folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(orjson.loads(index.read_bytes())["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        pickled = any(folder.glob("pytorch_model*.bin"))
        remedy = "Convert its pickled weights to safetensors." if pickled else "Fetch or copy the model again, whole."
        _unavailable(params, f"{missing[0]} is not in {folder} ({len(missing)} of {len(names)} missing)", remedy)
    cut = [name for name in names if not complete(folder / name)]
    if cut:
        _unavailable(params, f"{cut[0]} in {folder} is not whole", "Fetch or copy the model again.")


def _fetched(params: LlmParams, shared: Path, *, weights: bool) -> Path:
    """A snapshot of the hub, in `shared/hub`: files that are there already are not fetched again."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = DESCRIPTION + (WEIGHTS if weights else [])
    try:
        told = snapshot_download(
            params.base_model, revision=params.base_revision, cache_dir=shared / "hub", allow_patterns=wanted
        )
    except GatedRepoError as error:
        _unavailable(params, f"it is gated: {_first_line(error)}", "Accept its terms, and give the worker HF_TOKEN.")
    except LocalEntryNotFoundError as error:
        _unavailable(
            params, f"the hub is out of reach: {_first_line(error)}", f"Check the network and HF_ENDPOINT. {NAME_IT}"
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        _unavailable(
            params, _first_line(error), f"Check id, base_revision and, where it is private, HF_TOKEN. {NAME_IT}"
        )
    return Path(told)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _unavailable(params: LlmParams, why: str, remedy: str) -> Never:
    revision = f" at {params.base_revision}" if params.base_revision else ""
    raise PipelineError(
        "base_unavailable", f"The base model {params.base_model}{revision} cannot be used: {why}.", remedy
    )
