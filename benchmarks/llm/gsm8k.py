"""gsm8k: SFT and DPO on its real rows with the tiny base. It cannot count that far: the gate must say so and refuse."""

import shutil
from pathlib import Path
from typing import Any

from benchmarks.llm.road import refusal
from benchmarks.llm.tiny import base_model
from benchmarks.report import Report, progress
from benchmarks.service import Service

DATA = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
MODEL = "arithmetic"
LEAST_RIGHT = 0.1


def tell(service: Service, told: Report) -> None:
    """All stages on real rows, the report, and the refusal by name."""
    if not DATA.exists():
        told.tell("gsm8k left out: the real data sets are not on this machine")
        return
    define(service)
    planned = service.train(MODEL, dry_run=True)
    progress(f"plan: {planned['plan']}")
    job = service.train(MODEL, confirm=planned["confirmation"])
    report = service.api.get(f"/model/versions/{MODEL}/{job['version']}/evaluation")
    figures = {name: report["corpus"][name]["candidate"] for name in ("number_match", "token_f1", "bleu", "perplexity")}
    shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items() if value is not None)
    told.tell(
        f"gsm8k: {report['rows_answered']} rows judged, {shown}, verdict {job['verdict']}",
        job["verdict"] == "fail",
    )
    progress(job["gate"]["reason"])
    refused, slots = refusal(service, f"/model/versions/{MODEL}/{job['version']}/stage", {}), service.slots(MODEL)
    told.tell(
        f"gsm8k: into standby refused by {refused}, slots untouched",
        refused == "verdict_fail" and slots["active"] is slots["standby"] is None,
    )


def define(service: Service) -> None:
    """Train rows and pairs as they come; the 200 held-out questions are what no row of them is."""
    service.inputs.mkdir(exist_ok=True)
    for name in ("train.jsonl.gz", "preference-pairs.jsonl.gz"):
        shutil.copy(DATA / name, service.inputs / name)
    training: dict[str, Any] = {
        "base_model": str(base_model()),
        "preset": "cpu",
        "max_steps": 40,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_seq_length": 512,
        "curriculum": {"strategy": "length", "target_dataset_size": 400},
        "preference": {"method": "dpo", "epochs": 0.05, "batch_size": 2},
        "export": {"parity_prompts": 2},
        "evaluate": {"rows": 60, "max_tokens": 48, "perplexity_rows": 5},
        "serve": {"context": 1_024, "at_once": 2},
    }
    chat = {"prompt": "question", "completion": "answer"}
    pairs = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    service.api.put(
        f"/models/{MODEL}",
        {
            "type": "llm",
            "data": {"source": "file", "path": str(service.inputs / "train.jsonl.gz"), "chat": chat},
            "preference": {
                "data": {"source": "file", "path": str(service.inputs / "preference-pairs.jsonl.gz"), "chat": pairs}
            },
            "training": training,
            "prerequisites": {"min_new_samples": 0},
            "gate": {"criteria": {"number_match": {"min": LEAST_RIGHT}}},
        },
    )
