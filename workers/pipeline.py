"""The contract of a model type: a Pipeline says what it is called and takes, `train` is read from top to bottom.

A pipeline is one file in `workers/pipelines/` that has `PIPELINE = Pipeline(…)` and is found by its name. It knows no
database and no queue: everything it may touch is in its Run. Import torch and its like inside the stage that needs
them: the catalog imports every pipeline to publish its parameters, and the first stage must not wait.
"""

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from app.gate.criteria import Gate
from app.patterns import in_words
from app.runtimes.schema import InputSchema, TextInput

SplitName = Literal["train", "validation", "holdout"]
Strategy = Literal["full", "incremental", "pull"]  # as definitions have it; their room knows a database, this one none


class Params(BaseModel):
    """The training parameters of a type. Their JSON Schema is published, so that the API can check a trigger."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PipelineError(Exception):
    """A failure that the pipeline understands: a runbook code, what happened with its figures, and the remedy."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy


class OutOfMemory(PipelineError):
    """Retried once by itself: the next attempt gets `run.memory_scale` 0.5."""

    def __init__(self, message: str) -> None:
        super().__init__("out_of_memory", message, "Reduce training.batch_size or the model's size, or add memory.")


@dataclass(frozen=True)
class TrainingData:
    """A data version as a pipeline sees it: one table, with the split and the roles of its columns.

    `table(name)` has the label, key, time and feature columns of that split, in time order where there is a time.
    """

    digest: str
    labels: tuple[str, ...]  # the columns to predict
    features: tuple[str, ...]
    categorical: frozenset[str]  # features that are names whatever their type; text columns are so by themselves
    positive: Any
    time_ordered: bool
    text: TextInput | None  # how the features become one text, where they are texts
    rows: pa.Table
    split: pa.ChunkedArray  # "train" | "validation" | "holdout" | "retired", one a row

    def table(self, name: SplitName) -> pa.Table:
        import pyarrow.compute as pc

        return self.rows.filter(pc.equal(self.split, name))

    def counts(self) -> dict[str, int]:
        return {str(c["values"]): int(c["counts"]) for c in self.split.value_counts().to_pylist()}


@dataclass(frozen=True)
class Base:
    """The version that was active, for a training to start from: its artifact, verified by digest.

    `details` are what its own training recorded, such as family and hyperparameters.
    """

    version: int
    format: str
    folder: Path
    schema: InputSchema
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """What `train` leaves: a folder of artifact files, of a format that has a runtime, with figures to record.

    `metrics` are the validation-side figures; the gate measures its own on the holdout. `full_because` says why nothing
    of `run.base` is in it although there was one. `details` travel in the artifact: equal for equal trainings. How many
    `seconds` the stages took stands beside it.
    """

    format: str
    folder: Path
    metrics: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)  # e.g. chosen family, hyperparameters, trials
    full_because: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


class Reporter(Protocol):
    """Where a run's news goes: the supervisor writes it to the job's row and logs."""

    def __call__(self, kind: Literal["stage", "progress", "metric", "log"], **figures: Any) -> None: ...


@dataclass
class Run:
    """All that an attempt may touch.

    `folder` is this attempt's staging folder; it is thrown away when the attempt ends. `checkpoints` outlives the
    attempt and is the same for every attempt of the job and for a job that resumes it: write a file there whole
    (write, fsync, rename), and skip on the next attempt what it shows to be done. `shared` is that of every job and
    worker, for what can be computed again and named by what it was computed from. `threads` are this attempt's cores.
    `base` is what to start from; None: train in full.
    """

    params: Any
    data: TrainingData
    folder: Path
    checkpoints: Path
    shared: Path
    threads: int
    seed: int
    memory_scale: float  # 1.0; 0.5 after an attempt that ran out of memory: halve the batch, double the accumulation
    gate: Gate  # what will be asked of the candidate, so that a threshold can aim at it
    report: Reporter
    base: Base | None = None
    preference: TrainingData | None = None  # what is preferred to what, where the definition says so
    stages: frozenset[str] | None = None  # those that were asked for, to be run or run again; None: all
    strategy: Literal["full", "incremental", "pull"] = "full"

    @property
    def job(self) -> int:
        """The staging folder is `<job>/<fence>`."""
        return int(self.folder.parent.name)

    def again(self, *stages: str) -> str:
        """How to go on after the definition was mended: a job that is resumed keeps the revision that it began with."""
        if self.strategy == "pull":
            return "mend the definition, then trigger the pull again"
        asked = " ".join(f"--stage {name}" for name in stages)
        command = f"refit trigger MODEL {asked} --from-job {self.job}"
        return f"mend the definition, then `{command}`: a resumed job keeps the old"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A named part of the work. Its name must stand in the pipeline's `stages`."""
        started = time.monotonic()
        self.report("stage", name=name, state="started")
        yield
        self.report("stage", name=name, state="finished", seconds=round(time.monotonic() - started, 3))

    def progress(self, share: float, note: str = "") -> None:
        """How much of the current stage is done, 0 to 1, and in a few words what is being done."""
        self.report("progress", share=min(1.0, max(0.0, share)), note=note)

    def metric(self, name: str, value: float, step: int) -> None:
        """One point of a curve, such as validation loss by epoch."""
        self.report("metric", name=name, value=float(value), step=step)

    def log(self, message: str) -> None:
        self.report("log", message=message)


@dataclass(frozen=True)
class Pipeline:
    name: str
    summary: str
    queue: str
    params: type[Params]
    stages: Mapping[str, float]  # name → its rough share of the whole time, for progress and ETA
    train: Callable[[Run], Candidate | None]  # None: the stages that were asked for leave nothing to publish
    plan: Callable[[Run], dict[str, Any]]  # for a dry run: what would be done and its estimated cost; trains nothing
    incremental: bool = False  # `train` can start from `run.base`
    costly: bool = False  # a training needs the token of a dry run, and REFIT_TRAINING_ENABLED must name the type
    pulls: bool = False  # `strategy: pull` fetches a version that somebody else has trained
    keeps_checkpoints: bool = False  # what its stages left stays for a later job; retention takes it


def params_of(pipeline: Pipeline, told: Mapping[str, Any]) -> Params:
    """The parameters of a job. Raises PipelineError `invalid_params` for what no JSON Schema could tell the API."""
    try:
        return pipeline.params.model_validate(told)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'training'}: {in_words(e['msg'])}" for e in error.errors()]
        raise PipelineError(
            "invalid_params",
            f"Training parameters are not valid: {'; '.join(faults)}.",
            "Mend them in the definition's training, or in the trigger's params, and trigger again.",
        ) from None


def names() -> list[str]:
    import workers.pipelines as package

    return sorted(m.name for m in pkgutil.iter_modules(package.__path__))


def find(name: str) -> Pipeline:
    """The pipeline of a model type. Raises LookupError naming the known ones."""
    if name not in names():
        raise LookupError(f"no pipeline for model type {name!r}; this worker knows {', '.join(names())}")
    pipeline: Pipeline = importlib.import_module(f"workers.pipelines.{name}").PIPELINE
    return pipeline
