"""Embeddings that were computed before, by digest of encoder and text, in files that all workers share.

    <encoder>/<random>.npy    records of a text's digest and its embedding; written whole, never changed

So a retraining embeds only the texts that are new, and an attempt that was killed goes on after its last file.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.registry.artifacts import sync_folder
from app.runtimes.embedding import Embeddings, Encoder

# Texts in one file: some seconds of work, which is what a kill may cost.
AT_ONCE = 256

Digest = bytes  # sha256 in hexadecimal: numpy cuts zeros off the end of bytes
Records = npt.NDArray[np.void]  # of `digest` and `embedding`


class Cache:
    """What is known of one encoder's embeddings of dimension d."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self._folder = folder
        self._type = np.dtype([("digest", "S64"), ("embedding", "<f4", (dimension,))])
        self._mine: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, digests: Sequence[Digest]) -> dict[Digest, npt.NDArray[np.float32]]:
        """Those of the embeddings that are known. A file that another worker just merged away is in its successor."""
        wanted, found = set(digests), {}
        for records in self._files():
            for place in np.flatnonzero(np.isin(records["digest"], list(wanted))):
                found[bytes(records["digest"][place])] = np.array(records["embedding"][place])
        return found

    def add(self, digests: Sequence[Digest], embeddings: Embeddings) -> None:
        """Returns once they are on the disk."""
        records = np.empty(len(digests), self._type)
        records["digest"], records["embedding"] = digests, embeddings
        self._mine.append(self._write(records))

    def merge(self) -> None:
        """One file of all that were added here. The small ones go last, so a kill leaves too many, never too few."""
        if len(self._mine) > 1:
            merged = self._write(np.concatenate([np.load(path) for path in self._mine]))
            for path in self._mine:
                path.unlink(missing_ok=True)
            self._mine = [merged]

    def _files(self) -> Iterator[Records]:
        for path in sorted(self._folder.glob("*.npy")):
            try:
                yield np.load(path, mmap_mode="r")
            except FileNotFoundError:
                continue

    def _write(self, records: Records) -> Path:
        partial = self._folder / f".{uuid.uuid4().hex}"
        with partial.open("wb") as file:
            np.save(file, records)
            file.flush()
            os.fsync(file.fileno())
        path = partial.with_name(f"{partial.name[1:]}.npy")
        partial.rename(path)
        sync_folder(self._folder)
        return path


def embed(
    texts: Sequence[str], encoder: Encoder, shared: Path, on_progress: Callable[[int, int], None]
) -> tuple[Embeddings, int]:
    """Embeddings (n, d) of the texts, and how many had to be computed. Equal texts are computed once.

    `on_progress` is told (computed, to compute) after every file.
    """
    of_encoder = fingerprint(encoder)
    cache = Cache(shared / of_encoder.decode(), encoder.rule.dimension)
    digests = [digest(of_encoder, text) for text in texts]
    found = cache.find(digests)
    # By length, so that a file's texts are about as long as each other.
    missing = sorted({d: text for d, text in zip(digests, texts, strict=True) if d not in found}.items(), key=_length)
    for start in range(0, len(missing), AT_ONCE):
        part = missing[start : start + AT_ONCE]
        embeddings = encoder.encode([text for _, text in part])
        cache.add([d for d, _ in part], embeddings)
        found |= {d: embedding for (d, _), embedding in zip(part, embeddings, strict=True)}
        on_progress(start + len(part), len(missing))
    cache.merge()
    return np.stack([found[d] for d in digests]), len(missing)


def fingerprint(encoder: Encoder) -> Digest:
    """Of everything that an embedding depends on beside its text."""
    return hashlib.sha256(encoder.rule.model_dump_json().encode()).hexdigest().encode()


def digest(of_encoder: Digest, text: str) -> Digest:
    return hashlib.sha256(of_encoder + text.encode()).hexdigest().encode()


def _length(item: tuple[Digest, str]) -> int:
    return len(item[1])
