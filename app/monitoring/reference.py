"""The reference profile of a version: what drift and scores are measured against (workers/ml/profile.py writes it)."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from app.registry import artifacts

FILE = "profile.json"


@lru_cache(maxsize=256)
def profile_of(store: Path, artifact: str) -> Mapping[str, Any]:
    """Empty where the artifact has none. An artifact never changes, so it is read once."""
    path = artifacts.folder_of(store, artifact) / FILE
    found: Mapping[str, Any] = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return found
