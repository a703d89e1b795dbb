"""kill -9 of the attempt in every stage: the next attempt goes on at that stage, and the SFT adapter is the same to the
bit as without a kill.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from app.cli.client import Json
from benchmarks import postgres
from benchmarks.llm.road import MODEL, define
from benchmarks.report import Report, progress
from benchmarks.service import Service, until

WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'model_versions'::regclass"
STAGES = ("prepare", "sft", "preference", "merge", "generate", "export", "evaluate", "publish")


def kill(service: Service, told: Report, at: Sequence[str] = STAGES) -> None:
    """One training without a kill, then one with a kill in each stage of `at`, on the same data."""
    define(service, places=True)
    token = service.train(MODEL, dry_run=True)["confirmation"]
    whole = service.train(MODEL, confirm=token)
    adapter, artifact = adapter_of(service, whole), artifact_of(service, whole)
    same, resumed = 0, 0
    for stage in at:
        job = service.trigger(MODEL, confirm=token)
        killed_in = strike_at_the_end(service, job) if stage == "publish" else strike(service, job, stage)
        ended = service.wait_for(job)
        taken = len(lines(service, job, "taken as job"))
        progress(f"killed in {killed_in}: {ended['status']} by attempt {ended['attempt']}, which took {taken} stages")
        resumed += (killed_in, ended["status"], ended["attempt"]) == (stage, "completed", 2) and taken >= kept(stage)
        same += adapter_of(service, ended) == adapter and artifact_of(service, ended) == artifact
    told.tell(f"kill -9 in {len(at)} stages: {resumed} resumed at their stage", resumed == len(at))
    told.tell(f"{same} of {len(at)} adapters and artifacts bit-identical", same == len(at))


def strike(service: Service, job: int, stage: str) -> str:
    """Kills the attempt's process as soon as the stage has begun; in which it was."""
    until(lambda: stage in stages(service, job, "started"), f"the stage {stage}", seconds=300, every=0.01)
    if stage == "sft":
        until(lambda: _checkpoint(service, job), "a checkpoint", seconds=120, every=0.01)
    _kill(service, "workers.run")
    return _unfinished(service, job)


def strike_at_the_end(service: Service, job: int) -> str:
    """Kills the worker while it publishes: a lock on the table of versions keeps it there."""
    until(lambda: "evaluate" in stages(service, job, "started"), "the stage evaluate", seconds=300)
    with postgres.connect(service.folder) as held, postgres.connect(service.folder, autocommit=True) as watching:
        held.execute("LOCK TABLE model_versions IN SHARE MODE")
        until(lambda: watching.execute(WAITS).fetchone(), "a worker that publishes", seconds=300, every=0.01)
        _kill(service, "workers.celery_app")
        return _unfinished(service, job)


def kept(stage: str) -> int:
    """How many stages before it leave what the next attempt takes: all but those that ask the exported artifact."""
    return min(STAGES.index(stage), STAGES.index("evaluate"))


def _kill(service: Service, module: str) -> None:
    for process in service.processes(module):
        process.kill()


def _unfinished(service: Service, job: int) -> str:
    begun, over = stages(service, job, "started"), stages(service, job, "finished")
    return next((name for name in begun if name not in over), begun[-1])


def stages(service: Service, job: int, state: str) -> list[str]:
    return [event["after"] for event in service.events(job, f"stage.{state}")]


def adapter_of(service: Service, job: Json) -> str:
    [found] = (service.folder / "store" / "checkpoints" / str(job["job_id"]) / "sft").rglob(
        "adapter/adapter_model.safetensors"
    )
    return hashlib.sha256(found.read_bytes()).hexdigest()


def artifact_of(service: Service, job: Json) -> str:
    return str(service.version(MODEL, job["version"])["artifact"]) if job["version"] else ""


def lines(service: Service, job: int, having: str) -> list[str]:
    found = service.api.get(f"/training/jobs/{job}/logs", limit=1_000)["data"]
    return [line["line"] for line in found if having in line["line"]]


def _checkpoint(service: Service, job: int) -> list[Path]:
    return list(
        (service.folder / "store" / "checkpoints" / str(job) / "sft").glob("**/checkpoint-*/trainer_state.json")
    )
