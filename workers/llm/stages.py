"""Which stages of a job are done, what they left, and that each is done once: a killed job goes on at its stage.

    checkpoints/<stage>/           what the stage writes: its work, and in the end its result
    checkpoints/<stage>.json       {key, figures, seconds, job}, written last: the stage is done

The key is of all that the stage depends on: the data, its parameters, and the keys of the stages before it. Another
learning rate trains again and keeps what was prepared; a stage that was asked for by name is done again in any case.

A stage is a module of its name with

- `def depends_on(params: LlmParams) -> dict[str, Any]`: the parameters, as JSON, that change what it leaves;
- `def work(run: Run, done: Mapping[str, Done], folder: Path) -> Mapping[str, Any]`: does it, with the stages before it
  in `done`, and answers with its figures, as JSON. `folder` may hold what an attempt left that was killed in it.
"""

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from app.registry.artifacts import write_durably
from workers.llm.params import LlmParams
from workers.pipeline import PipelineError, Run


@dataclass(frozen=True)
class Done:
    """A stage that is done: its folder, its figures, the key that says what they came from, and how long it took."""

    folder: Path
    figures: Mapping[str, Any]
    key: str
    seconds: float = 0.0


class Stage(Protocol):
    def depends_on(self, params: LlmParams) -> dict[str, Any]: ...
    def work(self, run: Run, done: Mapping[str, Done], folder: Path) -> Mapping[str, Any]: ...


def do(run: Run, name: str, stage: Stage, done: Mapping[str, Done]) -> Done:
    """Does a stage, or takes what it left.

    Raises PipelineError `stage_missing` where it was not asked for and was never done, and what its work raises.
    """
    key = _key(name, _data(run, name), stage.depends_on(run.params), [before.key for before in done.values()])
    folder, record = run.checkpoints / name, run.checkpoints / f"{name}.json"
    known = _read(record)
    with run.stage(name):
        if run.stages is not None and name not in run.stages:
            return _taken(run, name, folder, known)
        by_name = run.stages is not None
        if known and known["key"] == key and not (by_name and known["job"] != run.job):
            return _taken(run, name, folder, known)
        record.unlink(missing_ok=True)
        if _begun(folder) != f"{key} {run.job if by_name else ''}":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / ".begun", f"{key} {run.job if by_name else ''}".encode())
        began = time.monotonic()
        figures = dict(stage.work(run, done, folder))
        told: dict[str, Any] = {
            "key": key,
            "figures": figures,
            "seconds": round(time.monotonic() - began, 3),
            "job": run.job,
        }
        write_durably(record, orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))
        return Done(folder, figures, key, told["seconds"])


def policy(done: Mapping[str, Done]) -> Path | None:
    """The folder of the newest adapter; None where neither stage was done, and the base is what there is."""
    newest = done.get("preference") or done.get("sft")
    return newest.folder / "adapter" if newest else None


def _taken(run: Run, name: str, folder: Path, known: Mapping[str, Any] | None) -> Done:
    if known is None:
        raise PipelineError(
            "stage_missing",
            f"The stage {name} was not asked for, and no earlier job has left it.",
            f"Ask for {name} too, or train in full; retention takes checkpoints after REFIT_RETAIN_CHECKPOINT_DAYS.",
        )
    run.log(f"{name}: taken as job {known['job']} left it, which took {known['seconds']} s")
    return Done(folder, known["figures"], known["key"], known["seconds"])


def _data(run: Run, name: str) -> list[str]:
    """The digests of the data that it reads."""
    preferred = run.preference.digest if name == "preference" and run.preference else None
    return [run.data.digest, *([preferred] if preferred else [])]


def _key(name: str, data: list[str], depends_on: Mapping[str, Any], before: list[str]) -> str:
    told = orjson.dumps([name, data, depends_on, before], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(told).hexdigest()


def _read(record: Path) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = orjson.loads(record.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return known


def _begun(folder: Path) -> str | None:
    """What an attempt that did not end began with."""
    try:
        return (folder / ".begun").read_text()
    except FileNotFoundError:
        return None
