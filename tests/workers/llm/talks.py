"""Runs over conversations that the tiny base model can learn from. Their news is `run.report.heard`."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from app.gate.criteria import Gate
from app.runtimes import chat
from benchmarks.llm.tiny import base_model, pairs
from tests.workers.runs import News, data_of
from workers.llm.params import LlmParams
from workers.llm.stages import Done, do
from workers.pipeline import Run, TrainingData

QUICK: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-3,
    "max_seq_length": 64,
    "lora": {"r": 4, "lora_alpha": 8},
    "save_steps": 5,
}


def asked(question: str) -> str:
    return chat.written([{"role": "user", "content": question}])


def conversations(rows: int = 40, **columns: list[Any]) -> TrainingData:
    """What the base already knows, and other columns beside it; 70 % train, 15 % validation."""
    known = pairs()[:rows]
    table = {"prompt": [asked(question) for question, _ in known], "completion": [answer for _, answer in known]}
    return data_of(pa.table(table | columns), label="completion")


def run_of(data: TrainingData, folder: Path, *, memory_scale: float = 1.0, seed: int = 7, **params: Any) -> Run:
    given: dict[str, Any] = {"base_model": str(base_model())} | QUICK | params
    run = Run(
        params=LlmParams(**given),
        data=data,
        folder=folder / "staging" / "1" / "1",
        checkpoints=folder / "checkpoints",
        shared=folder / "shared",
        threads=1,
        seed=seed,
        memory_scale=memory_scale,
        gate=Gate(),
        report=News(),
    )
    for made in (run.folder, run.checkpoints, run.shared):
        made.mkdir(parents=True, exist_ok=True)
    return run


def prepared(run: Run) -> dict[str, Done]:
    from workers.llm import prepare

    return {"prepare": do(run, "prepare", prepare, {})}


def trained(run: Run) -> Done:
    from workers.llm import sft

    return do(run, "sft", sft, prepared(run))
