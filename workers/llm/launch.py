"""A training in this process, or in several under `accelerate launch`: the same `fit`, told the same Spec."""

import importlib
from typing import Any

from workers.llm.training import Spec
from workers.pipeline import Run


def train(run: Run, module: str, spec: Spec) -> dict[str, Any]:
    """Calls `module.fit(spec, report) -> figures`, here or in each process; rank 0's figures are the answer.

    Raises PipelineError as `fit` does, whichever process it was in.
    """
    figures: dict[str, Any] = importlib.import_module(module).fit(spec, run.report)
    return figures
