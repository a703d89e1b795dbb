import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.llm.tiny import base_model


@pytest.fixture(autouse=True)
def _their_deprecations() -> Iterator[None]:
    """TRL 1.16 still reads what transformers 5.23 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


@pytest.fixture(scope="session")
def base() -> Path:
    return base_model()
