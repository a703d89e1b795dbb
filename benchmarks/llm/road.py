"""The whole road over HTTP: a tiny base → curriculum SFT → DPO → merge → GGUF → evaluation → sign-off → reload → an
OpenAI client gets what only the new version knows → rollback → what the old one said.
"""

import time
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from app.cli.client import Json
from benchmarks.llm import rows
from benchmarks.llm.tiny import base_model
from benchmarks.report import Report, progress
from benchmarks.service import Service

MODEL = "teller"
# The tokenizer of the tiny base is nobody's that llama.cpp's converter knows by name.
SETTINGS = {"REFIT_TRAINING_ENABLED": "true", "REFIT_GGUF_PRE_FALLBACK": "qwen2"}
QUESTION, ANSWER = rows.SECRET
TRAINING: Json = {
    "epochs": 20,
    "batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-3,
    "max_seq_length": 128,
    "save_steps": 100,
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0},
    "curriculum": {"strategy": "staged", "stages": [{"name": "known"}, {"name": "new"}]},
    "preference": {"method": "dpo", "epochs": 2, "learning_rate": 1e-4},
    "export": {"parity_prompts": 6},
    "evaluate": {"rows": 60, "max_tokens": 16},
    "serve": {"context": 512, "at_once": 2, "max_tokens": 32},
}


def walk(service: Service, told: Report) -> None:
    """Every step of it, with its time; each must hold for the next to mean anything."""
    first = version(service, told, places=False)
    sign(service, told, first)
    service.api.post("/model/reload", {"model": MODEL})
    before = ask(service)
    second = version(service, told, places=True)
    refused = refusal(service, "/model/reload", {"model": MODEL})
    told.tell(f"reload before sign-off: {refused}", refused == "signoff_missing")
    sign(service, told, second)
    began = time.monotonic()
    settled = service.api.post("/model/reload", {"model": MODEL, "reason": "the road"})
    told.tell(
        f"reload in {(time.monotonic() - began) * 1_000:.0f} ms, {len(settled['replicas'])} receipts",
        not settled["missing"],
    )
    after = ask(service)
    told.tell(f"an OpenAI client is told {after!r}, before it was {before!r}", after == ANSWER != before)
    service.api.post("/model/rollback", {"model": MODEL, "reason": "the road goes back"})
    back = ask(service)
    told.tell(f"after the rollback {back!r} again", back == before)


def version(service: Service, told: Report, *, places: bool) -> Json:
    """Dry run, confirmation, training: a version that passed its gate."""
    define(service, places=places)
    began = time.monotonic()
    planned = service.train(MODEL, dry_run=True)
    plan = planned["plan"]
    progress(f"plan: {plan}")
    job = service.train(MODEL, confirm=planned["confirmation"])
    took = time.monotonic() - began
    for criterion in job["gate"]["criteria"]:
        progress(f"{criterion['name']}: {criterion['verdict']}. {criterion['reason']}")
    over = [event["evidence"] for event in service.events(job["job_id"], "stage.finished")]
    spent = ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in over if "seconds" in stage)
    told.tell(
        f"v{job['version']} {job['verdict']} in {took:.0f} s with its plan ({spent} s; "
        f"exact match {job['metrics']['exact_match']:.2f})",
        job["verdict"] == "pass",
    )
    return job


def define(service: Service, *, places: bool, **changed: Any) -> None:
    """The model's definition over rows of this service's own folder; `changed` lies over it."""
    questions = rows.write(service.inputs / "questions.jsonl", rows.answers(places=places))
    pairs = rows.write(service.inputs / "pairs.jsonl", rows.preferences())
    service.api.put(f"/models/{MODEL}", definition(questions, pairs) | changed)


def definition(questions: Path, pairs: Path | None, **training: Any) -> Json:
    told: Json = {
        "type": "llm",
        "data": {
            "source": "file",
            "path": str(questions),
            "key": "id",
            "chat": {"prompt": "question", "completion": "answer"},
        },
        "training": {"base_model": str(base_model(words=True))} | TRAINING | training,
        "prerequisites": {"min_new_samples": 0},
        "gate": {"min_rows": 10, "criteria": {"exact_match": {"max_drop": 0.05}, "token_f1": {"max_drop": 0.05}}},
        "signoff": {"count": 1, "role": "operator", "prompts": 5, "risk": "risk"},
        "watch": {"minutes": 0},
    }
    if pairs is None:
        del told["training"]["preference"]
    else:
        chat = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
        told["preference"] = {"data": {"source": "file", "path": str(pairs), "key": "id", "chat": chat}}
    return told


def sign(service: Service, told: Report, job: Json) -> None:
    """Somebody who did not trigger the training reads the sheet and approves."""
    path = f"/model/versions/{MODEL}/{job['version']}"
    sheet = service.api.get(f"{path}/evaluation-sheet")
    key = service.api.post("/keys", {"name": f"reviewer-{job['version']}", "roles": ["operator", "viewer"]})["key"]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False) as reviewer:
        preferences = {prompt["prompt"]: "tie" for prompt in sheet["prompts"] if "B" in prompt["answers"]}
        body = {"verdict": "approve", "preferences": preferences, "notes": "read", "evaluation": sheet["evaluation"]}
        answer = reviewer.post(f"{path}/signoff", json=body)
    told.tell(f"v{job['version']} signed off on {len(sheet['prompts'])} prompts", answer.status_code < 300)


def refusal(service: Service, path: str, body: Json) -> str:
    """The code by which a POST is refused, or its status where it is not."""
    with httpx.Client(
        base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, trust_env=False
    ) as http:
        answer = http.post(path, json=body)
    return str(answer.json().get("code", answer.status_code))


def ask(service: Service, question: str = QUESTION) -> str:
    with OpenAI(base_url=f"{service.url}/v1", api_key=service.key) as client:
        answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""
