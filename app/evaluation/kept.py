"""Evaluations in the store, under the name of their sha256, as artifacts are: `evaluations/<digest>.json`."""

import hashlib
from pathlib import Path

from app.errors import NotFound
from app.evaluation.schemas import Evaluation
from app.registry.artifacts import write_durably


def keep(store: Path, evaluation: Evaluation) -> str:
    """The digest under which it can be read from now on."""
    content = evaluation.model_dump_json().encode()
    digest = hashlib.sha256(content).hexdigest()
    write_durably(path_of(store, digest), content)
    return digest


def read(store: Path, digest: str) -> Evaluation:
    """Blocks. Raises NotFound `evaluation_not_found` where its file is gone or not what was written."""
    return Evaluation.model_validate_json(content_of(store, digest))


def content_of(store: Path, digest: str) -> bytes:
    """As `read`, the bytes of its file."""
    try:
        content = path_of(store, digest).read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise NotFound(
            f"The evaluation {digest[:12]} is not in the store.",
            code="evaluation_not_found",
            remedy="Restore it from a backup of the store, or evaluate again: refit trigger MODEL --stage evaluate.",
        )
    return content


def path_of(store: Path, digest: str) -> Path:
    return store / "evaluations" / f"{digest}.json"
