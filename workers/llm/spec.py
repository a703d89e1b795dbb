"""What one training is told: a `fit(spec, report) -> figures` may run in other processes, so it stands in JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from workers.llm import bases
from workers.llm.effective import effective
from workers.llm.params import LlmParams
from workers.llm.stages import Done
from workers.pipeline import Run


@dataclass(frozen=True)
class Spec:
    """All that a training is told. `params` are the effective ones; `adapter` is where it starts, None: a fresh one.

    `folder` is the stage's: checkpoints lie in it, and the result in `folder/adapter`. `rows` is what the stage reads,
    `extra` whatever else its `fit` wants, as JSON.
    """

    params: LlmParams
    base: Path
    adapter: Path | None
    rows: Path
    folder: Path
    seed: int
    threads: int
    extra: dict[str, Any] = field(default_factory=dict)

    def written(self) -> bytes:
        """As another process reads it."""
        told = asdict(self) | {"params": self.params.model_dump(mode="json")}
        return orjson.dumps(told, default=str)

    @classmethod
    def read(cls, text: bytes) -> "Spec":
        told = orjson.loads(text)
        places = {name: Path(told[name]) for name in ("base", "rows", "folder")}
        adapter = Path(told["adapter"]) if told["adapter"] else None
        return cls(**told | places | {"adapter": adapter, "params": LlmParams.model_validate(told["params"])})


def of(run: Run, done: Mapping[str, Done], folder: Path, *, adapter: Path | None = None, **extra: Any) -> Spec:
    """A stage's Spec: the base that `prepare` resolved, and its rows."""
    prepared = done["prepare"]
    return Spec(
        params=effective(run.params, run.memory_scale),
        base=bases.of(run, prepared.figures),
        adapter=adapter,
        rows=prepared.folder,
        folder=folder,
        seed=run.seed,
        threads=run.threads,
        extra=extra,
    )
