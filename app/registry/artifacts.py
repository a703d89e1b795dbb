"""Artifacts: published files under the name of their digest. Nothing published is executable; nothing is half there.

    staging/<job>/<fence>/   written by one attempt, thrown away with it
    artifacts/<digest>/      manifest.json and the files it names; never changed
    snapshots/<digest>.parquet
    checkpoints/<job>/       resumable work, never served
    shared/                  what workers computed once for all of them, and could compute again

The manifest is canonical JSON and its sha256 is the artifact's digest, so the digest vouches for every byte of every
file. The row in `model_versions` is the publication: a folder without one does not exist.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from app.errors import RefitError

# Refit loads none of these formats' code, only their data. A pickle is never one of them.
ALLOWED_SUFFIXES = frozenset({".onnx", ".safetensors", ".gguf", ".json", ".parquet"})
CHUNK = 1 << 20


class ArtifactCorrupt(RefitError):
    """Files on disk are not those that were published."""

    status, code = 500, "artifact_corrupt"


class PublishedFile(BaseModel):
    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int


class Manifest(BaseModel):
    """What an artifact is. `files` by relative path; `size` in bytes is the sum of theirs."""

    model_config = ConfigDict(frozen=True)

    format: str
    model_type: str
    data_version: str
    code_revision: str
    files: Mapping[str, PublishedFile]
    details: Mapping[str, Any]

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files.values())

    def canonical(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.canonical()).hexdigest()


def folder_of(store: Path, digest: str) -> Path:
    return store / "artifacts" / digest


def staging_of(store: Path, job: int, fence: int) -> Path:
    return store / "staging" / str(job) / str(fence)


def checkpoints_of(store: Path, job: int) -> Path:
    return store / "checkpoints" / str(job)


def shared_of(store: Path) -> Path:
    return store / "shared"


def publish(store: Path, folder: Path, manifest_without_files: Manifest) -> Manifest:
    """Moves `folder` into its digest's place: hash, fsync, manifest, rename, fsync. Idempotent; safe to kill anywhere.

    Raises ValueError for a file whose suffix is not allowed.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
        if path.suffix not in ALLOWED_SUFFIXES:
            raise ValueError(f"{path.name}: an artifact may only hold {', '.join(sorted(ALLOWED_SUFFIXES))}")
        files[path.relative_to(folder).as_posix()] = _hash_and_sync(path)
    manifest = manifest_without_files.model_copy(update={"files": files})
    write_durably(folder / "manifest.json", manifest.canonical())
    target = folder_of(store, manifest.digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError:
        # Somebody has published the very same bytes; a folder that is not whole never stands in its digest's place.
        if not target.exists():
            raise
        shutil.rmtree(folder)
        # As new as what was published now: retention takes old ones that have no row.
        os.utime(target)
    sync_folder(target.parent)
    return manifest


def verify(store: Path, digest: str) -> tuple[Path, Manifest]:
    """The artifact's folder and manifest, after every byte was hashed. Raises ArtifactCorrupt naming the file."""
    folder = folder_of(store, digest)
    try:
        raw = (folder / "manifest.json").read_bytes()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise ArtifactCorrupt(f"Artifact {digest[:12]}: manifest.json does not match its digest.")
        manifest = Manifest.model_validate_json(raw)
        for name, file in manifest.files.items():
            if _sha256(folder / name) != file.sha256:
                raise ArtifactCorrupt(f"Artifact {digest[:12]}: {name} does not match its digest.")
    except OSError as error:
        raise ArtifactCorrupt(f"Artifact {digest[:12]} cannot be read: {error.strerror} ({error.filename}).") from error
    return folder, manifest


def write_durably(path: Path, content: bytes) -> None:
    """Write, fsync, rename, fsync the folder: `path` has the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_and_sync(path: Path) -> PublishedFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return PublishedFile(sha256=digest, size=file.tell())
