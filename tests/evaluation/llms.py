"""A language model's data version, and attempts of a pipeline that leaves an artifact of the tiny base: what comes
after training is real, from the published files to llama.cpp's answers."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.data import snapshots
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.registry.tables import ModelVersion
from app.runtimes.chat import Card, written
from app.training.tables import TrainingJob
from benchmarks.llm.tiny import pairs
from tests.ggufs import asked, tiny_card, write_artifact
from workers.attempt import train_and_judge
from workers.inputs import Inputs
from workers.llm.params import LlmParams
from workers.pipeline import Candidate, Pipeline, Run
from workers.progress import Progress

STAGES = {"export": 0.5, "evaluate": 0.4, "publish": 0.1}
# What ends every answer of the tiny base before it has said anything: "The answer is 5." becomes "The".
CUT = (" answer", " capital")


@dataclass
class Attempts:
    """Attempts of one model, each with a store, a data version and an incumbent, and without a database."""

    store: Path
    version: DataVersion
    definition: Definition
    incumbent: ModelVersion | None = None
    incumbents_data: list[DataVersion | None] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)

    def run(
        self, train: Callable[[Run], Candidate | None], job: int = 7, fence: int = 1, **asked_for: Any
    ) -> dict[str, Any]:
        """The outcome of one attempt. `asked_for` are columns of its job."""
        given = {"params": {}, "strategy": "full", "memory_scale": 1.0, "dry_run": False, "stages": None} | asked_for
        row = TrainingJob(
            id=job, model="tutor", model_type="llm", checkpoint_of=given.pop("checkpoint_of", None), **given
        )
        row.params = {"base_model": "tiny", **self.definition.training, **row.params}
        snapshot = snapshots.load(self.store, self.version, self.definition)
        inputs = Inputs(
            row, self.definition, self.version, snapshot, self.incumbent, self.incumbents_data, None, [], None
        )
        pipeline = Pipeline("llm", "", "cpu", LlmParams, STAGES, train, lambda run: {}, keeps_checkpoints=True)
        return train_and_judge(self.store, inputs, pipeline, Progress(STAGES, self.heard.append), fence)

    @property
    def log(self) -> str:
        return "\n".join(each["message"] for each in self.heard if each["kind"] == "log")


async def attempts(store: Path, training: dict[str, Any] | None = None, **changes: Any) -> Attempts:
    """On the questions that the tiny base was taught: two of three are held out or chosen by."""
    rows = [{"prompt": written(asked(q)), "completion": a, "risk": float(len(q) % 3)} for q, a in pairs()]
    data = {"source": "samples", "chat": {"prompt": "prompt", "completion": "completion"}}
    body: dict[str, Any] = {"type": "llm", "data": data, "split": {"validation": 0.1, "holdout": 0.5}}
    body |= {"training": training or {}, "gate": {"min_rows": 20}}
    definition = Definition.model_validate(body | changes)
    table = pa.Table.from_pylist(rows)
    version = await snapshots.take("tutor", table, definition, store=store, previous=None, job_id=None)
    return Attempts(store, version, definition)


def leaves(card: Card | None = None) -> Callable[[Run], Candidate]:
    """A training that leaves the tiny base with this card."""

    def train(run: Run) -> Candidate:
        folder = run.folder / "artifact"
        shutil.rmtree(folder, ignore_errors=True)
        with run.stage("export"):
            write_artifact(folder, card or tiny_card())
        return Candidate("llama_cpp", folder, {"loss": 0.1})

    return train


def active(outcome: dict[str, Any], number: int = 1) -> ModelVersion:
    """The version of an outcome, as it stands once it was swapped in."""
    return ModelVersion(model="tutor", number=number, job_id=1, definition_revision=1, **outcome["version"])
