"""The newest checkpoint that can be gone on from: a kill may have left the last one half written.

Trainers write `trainer_state.json` last, but a rotation that was cut leaves it behind as well. So every file is looked
at: torch's are zip archives with checksums, safetensors say how long they are.
"""

import shutil
import struct
import zipfile
from pathlib import Path

import orjson

NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "adapter_model.safetensors")


def newest_valid(folder: Path) -> Path | None:
    """`folder/checkpoint-N` with the highest N that is whole; those that are not are deleted. None: begin at once."""
    best: Path | None = None
    for found in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        if is_whole(found):
            best = found
        else:
            shutil.rmtree(found, ignore_errors=True)  # another rank may be at it too
    return best


def is_whole(checkpoint: Path) -> bool:
    """Everything that a trainer resumes from is there, to the last byte."""
    states = list(checkpoint.glob("rng_state*.pth"))
    if not states or not all((checkpoint / name).exists() for name in NEEDED):
        return False
    archives = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *states]
    weights = checkpoint.rglob("*.safetensors")
    return (
        _is_json(checkpoint / "trainer_state.json") and all(map(_is_archive, archives)) and all(map(complete, weights))
    )


def complete(safetensors: Path) -> bool:
    """A safetensors file is as long as its own header says: eight bytes of length, the header, the tensors."""
    with safetensors.open("rb") as file:
        told = file.read(8)
        if len(told) < 8:
            return False
        (length,) = struct.unpack("<Q", told)
        size = safetensors.stat().st_size
        if size < 8 + length:
            return False
        try:
            header = orjson.loads(file.read(length))
        except orjson.JSONDecodeError:
            return False
    end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
    return bool(size == 8 + length + end)


def _is_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError):
        return False


def _is_json(path: Path) -> bool:
    try:
        orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return False
    return True
