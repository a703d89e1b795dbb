"""Runs of a language model's stages by themselves, on the tiny base model."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from app.gate.criteria import Gate
from app.runtimes.chat import written
from tests.workers.runs import News, data_of
from workers.llm.params import LlmParams
from workers.pipeline import Run, TrainingData


def asked(question: str) -> str:
    return written([{"role": "user", "content": question}])


def rows_of(labels: tuple[str, ...], *, split: str = "train", **columns: list[Any]) -> TrainingData:
    """A data version of conversations, all of them in one split."""
    table = pa.table(columns)
    splits = pa.chunked_array([pa.array([split] * len(table), pa.string())])
    return data_of(table, labels=labels, features=("prompt",), split=splits)


def run_of(folder: Path, preferred: TrainingData | None = None, **params: Any) -> Run:
    made = {name: folder / name for name in ("staging", "checkpoints", "shared")}
    for path in made.values():
        path.mkdir(parents=True, exist_ok=True)
    return Run(
        params=LlmParams.model_validate({"base_model": "/nowhere", **params}),
        data=rows_of(("completion",), prompt=[asked("What is 1 plus 1?")], completion=["The answer is 2."]),
        folder=made["staging"] / "7" / "1",
        checkpoints=made["checkpoints"],
        shared=made["shared"],
        threads=1,
        seed=7,
        memory_scale=1.0,
        gate=Gate(),
        report=News(),
        preference=preferred,
    )
