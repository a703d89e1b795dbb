"""Runbook 002, "Model Retraining Procedures", with curl: once for the first version, once for the next."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.client import Json
from benchmarks.data import breast_cancer, features
from benchmarks.report import Report, p99, progress, report
from benchmarks.service import Service, running

TRIGGER = {"model_type": "classifier", "data_version": "latest"}
METRICS = ("f1", "precision", "recall", "auc_roc")
SAMPLES = 100


@dataclass(frozen=True)
class Curl:
    """`POST /path` and a body as the runbook writes them; the key is in a file, where no list of processes shows it."""

    url: str
    config: Path

    def __call__(self, method: str, path: str, body: Json | None = None) -> tuple[Any, float]:
        """The JSON of the answer, and the seconds that curl counted. Raises RuntimeError where it is a problem."""
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--config", str(self.config)]
        command += ["--request", method, "--write-out", "\n%{time_total}", self.url + path]
        if body is not None:
            command += ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"curl {method} {path}: {done.stderr.strip()} {done.stdout}")
        answer, _, seconds = done.stdout.rpartition("\n")
        return json.loads(answer), float(seconds)


def main() -> None:
    with report("runbook") as told, running() as service:
        curl = Curl(service.url, _config(service))
        data = breast_cancer(service.inputs / "tumours.csv")
        worst = [name for name in features(data)[0] if name.startswith("worst_")]
        # The second version is better by more than chance: it may look at all thirty measurements, not at ten.
        for seen in (data | {"features": worst}, data):
            service.define("tumours", seen, prerequisites={"min_new_samples": 0})
            retrain(curl, told, seen)
        roll_back(curl, told)


def retrain(curl: Curl, told: Report, data: Json) -> None:
    """Trigger, status, smoke test of the standby, blue-green deployment: the runbook's four sections."""
    before, _ = curl("GET", "/model/slots")
    accepted, _ = curl("POST", "/training/trigger", TRIGGER)
    job = status_when_ended(curl)
    assert job["job_id"] == accepted["job_id"]
    number, deltas = job["version"], {name: c["delta"] for name, c in (job["comparison"] or {}).items()}
    measured = all(isinstance((job["metrics"] or {}).get(name), float) for name in METRICS)
    compared = all((deltas.get(name) is None) == (before["active"] is None) for name in METRICS)
    progress(f"metrics {job['metrics']}")
    against = "first" if before["active"] is None else f"ΔF1 {deltas['f1']:+.3f} ΔAUC {deltas['auc_roc']:+.4f}"
    told.tell(
        f"v{number} {job['status']}, {job['verdict']}, F1 {job['metrics']['f1']:.3f} ({against})",
        (job["status"], job["verdict"]) == ("completed", "pass") and measured and compared,
    )
    smoke_test(curl, told, data, number)
    swapped, seconds = curl("POST", "/model/reload")
    right = (swapped["active"], swapped["standby"], swapped["missing"]) == (number, before["active"], [])
    told.tell(f"reload v{before['active'] or '–'} → v{swapped['active']} in {seconds * 1e3:.0f} ms", right)
    answered_by(curl, told, data, number)


def status_when_ended(curl: Curl) -> Json:
    while True:
        job: Json = curl("GET", "/training/status")[0]
        progress(f"status {job['status']}, stage {job['stage']}, {job['progress']:.0%}")
        if job["status"] not in ("queued", "running"):
            return job
        time.sleep(1)


def smoke_test(curl: Curl, told: Report, data: Json, number: int) -> None:
    """100 sample predictions of the version in standby, one request each."""
    wait_until_warm(curl, number)
    calls = [
        curl("POST", "/predict/batch", {"instances": [row], "slot": "standby"}) for row in features(data)[:SAMPLES]
    ]
    scores = [score for answer, _ in calls for score in answer["scores"]]
    valid = [score for score in scores if 0.0 <= score <= 1.0]
    slowest = p99([seconds for _, seconds in calls])
    right = len(valid) == len(scores) == SAMPLES and {answer["version"] for answer, _ in calls} == {number}
    told.tell(f"{len(valid)} of {len(scores)} predictions in [0, 1], p99 {slowest * 1e3:.1f} ms", right and slowest < 1)


def wait_until_warm(curl: Curl, number: int) -> None:
    """The runbook's "new model is loaded into the standby slot" takes a moment; what is not loaded does not answer."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        slots, _ = curl("GET", "/model/slots")
        if slots["standby"] == number and all(replica["warm"] == number for replica in slots["replicas"]):
            return
        time.sleep(0.1)
    raise TimeoutError(f"version {number} did not get warm in standby: {slots}")


def answered_by(curl: Curl, told: Report, data: Json, number: int) -> None:
    answer, _ = curl("POST", "/predict/batch", {"instances": features(data)[:1]})
    told.tell(f"v{answer['version']} answers", answer["version"] == number)


def roll_back(curl: Curl, told: Report) -> None:
    reason = {"reason": "F1 drops or latency spikes: immediate rollback"}
    before, _ = curl("GET", "/model/slots")
    back, seconds = curl("POST", "/model/rollback", reason)
    right = (back["active"], back["standby"], back["missing"]) == (before["previous"], before["active"], [])
    told.tell(f"rollback v{before['active']} → v{back['active']} in {seconds * 1e3:.0f} ms", right)


def _config(service: Service) -> Path:
    config = service.folder / "curl.conf"
    config.touch(mode=0o600)
    config.write_text(f'header = "Authorization: Bearer {service.key}"\n')
    return config


if __name__ == "__main__":
    main()
