"""`python -m benchmarks.llm.overhead [ROUNDS]`: what a job costs beside a bare TRL script with the same settings."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from app.cli.client import Json
from benchmarks.llm import road, rows
from benchmarks.llm.tiny import base_model
from benchmarks.report import progress, report, size
from benchmarks.service import Service, running, until

STEPS = 300
MODEL = "measured"
SLOWER = 1.03
TRAINING: Json = {
    "stages": ["prepare", "sft"],
    "max_steps": STEPS,
    "batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-3,
    "max_seq_length": 128,
    "save_steps": 100,
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0},
}


def main() -> None:
    with report("bench-llm") as told, running(settings=road.SETTINGS) as service:
        path = rows.write(service.inputs / "questions.jsonl", rows.answers(places=True))
        service.api.put(f"/models/{MODEL}", definition(path))
        jobs, scripts = [], []
        for number in range(size(3)):
            scripts.append(script(service, path, number))
            jobs.append(job(service, number))
            progress(f"round {number + 1}: script {scripts[-1]}, job {jobs[-1]}")
        first = [median(one["first"] for one in each) for each in (jobs, scripts)]
        ratios = [mine["step"] / theirs["step"] for mine, theirs in zip(jobs, scripts, strict=True)]
        told.tell(
            f"to the end of the first step {first[0]:.1f} s from the trigger, {first[1]:.1f} s from the script's start"
        )
        told.tell(
            f"a step {median(one['step'] for one in jobs) * 1_000:.2f} ms, {median(ratios):.3f} x the script's "
            f"({', '.join(f'{ratio:.3f}' for ratio in ratios)})",
            median(ratios) <= SLOWER,
        )


def definition(path: Path) -> Json:
    told = road.definition(path, None)
    told["training"] = TRAINING | {"base_model": str(base_model(words=True))}
    told["prerequisites"] = {"min_new_samples": 0, "confirmation": False}
    return told


def job(service: Service, number: int) -> Json:
    """Another seed's worth of nothing: a learning rate that differs in the last place makes a job of its own."""
    began = time.monotonic()
    asked = service.trigger(MODEL, params={"learning_rate": 5e-3 + number * 1e-9})
    until(
        lambda: "step" in str(service.api.get("/training/status", job_id=asked)["progress_note"]), "a step", 120, 0.02
    )
    first = time.monotonic() - began
    ended = service.wait_for(asked)
    if ended["status"] != "completed":
        raise RuntimeError(f"job {asked} is {ended['status']}: {ended['error']}")
    record = json.loads((service.folder / "store" / "checkpoints" / str(asked) / "sft.json").read_text())
    return {"first": first, "step": record["figures"]["seconds"] / record["figures"]["steps"]}


def script(service: Service, path: Path, number: int) -> Json:
    """On the rows that train, as the job has them: its split leaves the others out."""
    folder = service.folder / f"bare-{number}"
    folder.mkdir()
    spec = {
        "base": str(base_model(words=True)),
        "rows": str(path),
        "folder": str(folder),
        "steps": STEPS,
        "batch_size": 8,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    # As `refit up` gives it to its attempts.
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "benchmarks.llm.bare", str(folder / "spec.json")]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | threads | {"HF_HUB_OFFLINE": "1"}
    )
    answer: Json = json.loads(found.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
