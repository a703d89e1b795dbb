"""kill -9 of the training process, of its worker and of the API, each in the middle of a job; then an empty broker."""

import time
from datetime import datetime

import redis

from app.cli.client import Json
from app.cli.embedded.folder import LOOPBACK, Servers
from benchmarks.data import breast_cancer, separable
from benchmarks.report import Report, progress, report, size
from benchmarks.service import Service, is_ready, running, until

VICTIMS = {"the training process": "workers.run", "the worker": "workers.celery_app", "the API": "app.main"}
TRIALS = 12
# The killed job has finished so many trials and is in the middle of the next.
TRIALS_BEFORE = 4
QUICK = {"optuna_trials": 1, "cv_folds": 2, "families": ["logistic_regression"]}


def main() -> None:
    with report("kills") as told:
        with running() as service:
            data = separable(service.inputs / "rows.csv", 6_000)
            training = {"optuna_trials": TRIALS, "families": ["hist_gradient_boosting"]}
            service.define("fraud", data, training=training, prerequisites={"min_new_samples": 0})
            whole = service.train("fraud")
            for name, module in VICTIMS.items():
                kill(service, told, name, module, artifact_of(service, whole))
            told.tell("no attempt is left behind", not service.processes("workers.run"))
        with running("--concurrency", "2") as service:
            flush(service, told, size(100))


def kill(service: Service, told: Report, name: str, module: str, artifact: str) -> None:
    """One job, killed in its middle: it must end in one version, the very one that an uninterrupted job makes."""
    job = service.trigger("fraud")
    until(lambda: len(trials(service, job)) >= TRIALS_BEFORE, f"{TRIALS_BEFORE} trials of job {job}", seconds=300)
    [victim] = service.processes(module)
    attempts = len(service.processes("workers.run"))
    victim.kill()
    killed = time.time()
    progress(f"killed {name} (process {victim.pid})")
    if module == "app.main":
        until(lambda: is_ready(service.url), "an API that is ready", every=0.01)
        told.tell(f"kill -9 of {name}: answers again after {time.time() - killed:.1f} s")
        expect_untouched(service, told, job, attempts)
    else:
        expect_resumed(service, told, f"kill -9 of {name}", job, killed)
    ended = service.wait_for(job)
    made = [v for v in service.api.pages("/model/versions", 100, model="fraud") if v["job_id"] == job]
    same = [v["artifact"] for v in made] == [artifact]
    told.tell(
        f"{len(made)} version with {'the same' if same else 'ANOTHER'} digest",
        same and ended["status"] == "completed",
    )


def expect_resumed(service: Service, told: Report, what: str, job: int, killed: float) -> None:
    """Tells when the next attempt was claimed and when its first stage ran, and from which trial it went on."""
    starts = until(lambda: service.events(job, "job.started")[1:], "another attempt", seconds=120)
    stages = until(lambda: stages_of(service, job, attempt=2), "its first stage", seconds=120)
    again, staged = (at(event) - killed for event in (starts[0], stages[0]))
    told.tell(f"{what}: claimed again after {again:.1f} s, first stage after {staged:.1f} s")
    service.wait_for(job)
    kept = [line for line in lines(service, job) if "trials of an earlier attempt are taken over" in line]
    taken = int(kept[0].split()[0]) if kept else 0
    rest = len([trial for trial in trials(service, job) if trial["attempt"] == 2])
    told.tell(f"resumed after {taken} of {TRIALS} trials", TRIALS_BEFORE <= taken == TRIALS - rest)


def expect_untouched(service: Service, told: Report, job: int, attempts: int) -> None:
    """The API does not train: its death is nothing to the attempt that runs."""
    ended = service.wait_for(job)
    told.tell(f"the job ran on in attempt {ended['attempt']}", ended["attempt"] == attempts == 1)


def flush(service: Service, told: Report, count: int) -> None:
    """FLUSHALL while the jobs of so many models are queued: Postgres knows them, and all run."""
    data = breast_cancer(service.inputs / "tumours.csv")
    models = [f"model-{number:03}" for number in range(count)]
    for model in models:
        service.define(model, data, training=QUICK, prerequisites={"min_new_samples": 0})
    began = time.monotonic()
    jobs = [service.trigger(model) for model in models]
    servers = Servers.model_validate_json((service.folder / "servers.json").read_bytes())
    with redis.Redis(LOOPBACK, servers.broker_port, password=servers.broker_password) as broker:
        bells = sum(broker.llen(key) for key in broker.keys("cpu*"))  # a list for each priority
        broker.flushall()
    queued = len(service.api.pages("/training/jobs", count, status="queued"))
    progress(f"flushed {bells} bells of {queued} queued jobs")
    ended = [service.wait_for(job) for job in jobs]
    completed = [job for job in ended if job["status"] == "completed" and job["version"] == 1]
    once = [job for job in completed if job["attempt"] == 1]
    told.tell(
        f"FLUSHALL with {queued} jobs of {count} models queued: {len(completed)} ran, {len(once)} of them once, "
        f"in {time.monotonic() - began:.0f} s",
        len(once) == count and queued > 0,
    )


def artifact_of(service: Service, job: Json) -> str:
    return str(service.version(job["model"], job["version"])["artifact"])


def trials(service: Service, job: int) -> list[Json]:
    points: list[Json] = service.api.get(f"/training/jobs/{job}/metrics", limit=1_000)["data"]
    return [point for point in points if point["name"] == "cv_auc_roc"]


def lines(service: Service, job: int) -> list[str]:
    return [line["line"] for line in service.api.get(f"/training/jobs/{job}/logs", limit=1_000)["data"]]


def stages_of(service: Service, job: int, attempt: int) -> list[Json]:
    started = service.events(job, "stage.started")
    return [event for event in started if event["evidence"]["attempt"] == attempt]


def at(event: Json) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


if __name__ == "__main__":
    main()
