"""`python -m benchmarks.texts [LABELS]`: banking77 against TF-IDF with a linear SVC, and what happens around it."""

import csv
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.cli.client import Json
from benchmarks.report import Report, progress, report, size
from benchmarks.service import Service, running, until
from benchmarks.texts import banking
from benchmarks.texts.banking import LABELS, Row
from benchmarks.texts.encoder import minilm
from benchmarks.texts.llama import llama

# TF-IDF with a linear SVC, trained on all of train.csv: macro precision and recall on test.csv.
BAR = {"precision": 0.916, "recall": 0.913}
MODEL = "intents"
# Of the rarest of 77 labels a holdout has a handful of rows.
DEFINITION: Json = {
    "type": "embedding_classifier",
    "prerequisites": {"min_new_samples": 0},
    "watch": {"minutes": 0},  # a watch would keep the standby for a rollback
    "gate": {"min_rows_per_class": 1, "criteria": {"f1": {"max_drop": 0.02}, "auc_roc": {"max_drop": 0.005}}},
}
BATCH = 200
LABELLED = 300


def main() -> None:
    labels = size(LABELS)
    rows = banking.rows("train", labels)
    with report("texts") as told, running() as service:
        new = rows[-len(rows) // 100 :]
        write(service.inputs / "questions.csv", rows[: -len(new)])
        first = train(service, told, "fp32")
        judge(service, told, "fp32", labels)
        write(service.inputs / "questions.csv", rows)
        retrain(service, told, first, len(new))
        train(service, told, "int8")
        judge(service, told, "int8", labels)
        weigh(service, told)
        if labels == LABELS:
            kill(service, told)  # of fewer texts embedding is over too soon
        label(service, told)
        refuse(service, told)


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", *rows[0]])
        writer.writeheader()
        writer.writerows({"id": number, **row} for number, row in enumerate(rows))


def define(service: Service, precision: str, options: Json | None = None, **training: Any) -> None:
    data = {
        "source": "file",
        "path": str(service.inputs / "questions.csv"),
        "key": "id",
        "label": "category",
        "text": {"columns": ["text"]},
        **(options or {}),
    }
    service.api.put(
        f"/models/{MODEL}",
        {**DEFINITION, "data": data, "training": {"encoder": str(minilm()), "precision": precision} | training},
    )


def train(service: Service, told: Report, precision: str) -> Json:
    """A version that passed its gate and is active."""
    define(service, precision)
    began = time.monotonic()
    job = service.train(MODEL)
    took = time.monotonic() - began
    for criterion in job["gate"]["criteria"]:
        progress(f"{criterion['name']}: {criterion['verdict']}. {criterion['reason']}")
    told.tell(
        f"{precision}: v{job['version']} {job['verdict']} in {took:.0f} s (holdout f1 {job['metrics']['f1']:.3f})",
        job["verdict"] == "pass",
    )
    service.api.post("/model/reload", {"model": MODEL})
    return job | {"seconds": took}


def judge(service: Service, told: Report, precision: str, known: int) -> None:
    """Macro precision and recall on the data set's own test rows, asked over HTTP; the bar is that of all labels."""
    from sklearn.metrics import precision_recall_fscore_support

    rows = banking.rows("test", known)
    labels: list[str] = []
    began = time.monotonic()
    for start in range(0, len(rows), BATCH):
        texts = [row["text"] for row in rows[start : start + BATCH]]
        labels += service.api.post("/predict/batch", {"model": MODEL, "instances": texts})["labels"]
    seconds = time.monotonic() - began
    truth = [row["category"] for row in rows]
    found = precision_recall_fscore_support(truth, labels, average="macro", zero_division=0.0)
    figures = dict(zip(("precision", "recall"), found, strict=False))
    holds = all(figures[name] >= bar for name, bar in BAR.items())
    told.tell(
        f"{precision} on {len(rows)} test rows: macro P {figures['precision']:.4f} R {figures['recall']:.4f} "
        f"(TF-IDF + SVC {BAR['precision']}/{BAR['recall']}), {len(rows) / seconds:.0f} texts/s over HTTP",
        holds,
    )


def retrain(service: Service, told: Report, first: Json, new: int) -> None:
    began = time.monotonic()
    job = service.train(MODEL)
    took = time.monotonic() - began
    points = service.api.pages(f"/training/jobs/{job['job_id']}/metrics", 1_000)
    embedded = sum(point["value"] for point in points if point["name"].endswith("_texts_embedded"))
    rows = sum(service.api.get("/data/versions", model=MODEL)["data"][0]["counts"].values())
    told.tell(
        f"after {new} new rows: {embedded:.0f} of {rows} texts embedded again ({embedded / rows:.1%}), "
        f"{took:.0f} s against {first['seconds']:.0f} s",
        embedded <= new,
    )
    service.api.post("/model/reload", {"model": MODEL})


def weigh(service: Service, told: Report) -> None:
    """The API with a text model in both slots."""
    slots = service.slots(MODEL)
    [api] = service.processes("app.main")
    resident = api.memory_full_info().pss / 2**20
    torch = any("torch" in mapped.path for mapped in api.memory_maps())
    told.tell(
        f"API with v{slots['active']} and v{slots['standby']} in its slots: {resident:.0f} MiB (PSS), "
        f"torch {'LOADED' if torch else 'not loaded'}",
        not torch and None not in (slots["active"], slots["standby"]),
    )


def kill(service: Service, told: Report) -> None:
    """kill -9 of the attempt in the middle of embedding: texts that were embedded are not embedded again."""
    # Another prefix is another embedding of every text.
    define(service, "fp32", prefix="question: ", optuna_trials=1)
    job = service.trigger(MODEL)
    until(lambda: share_of(service, job) > 0.3, "a third of the texts embedded", seconds=300)
    [victim] = service.processes("workers.run")
    victim.kill()
    ended = service.wait_for(job)
    points = service.api.pages(f"/training/jobs/{job}/metrics", 1_000)
    embedded = sum(p["value"] for p in points if p["name"].endswith("_texts_embedded") and p["attempt"] == 2)
    every = sum(
        service.api.get("/data/versions", model=MODEL)["data"][0]["counts"][side] for side in ("train", "validation")
    )
    told.tell(
        f"kill -9 while embedding: {ended['status']} in attempt {ended['attempt']}, "
        f"{embedded:.0f} of {every} texts left to embed",
        ended["status"] == "completed" and ended["attempt"] == 2 and 0 < embedded < 0.8 * every,
    )


def label(service: Service, told: Report) -> None:
    """kill -9 of the attempt in the middle of labelling by a real llama.cpp server: each text is asked about once."""
    with llama(service.folder) as url:
        asked = {"url": url, "model": "tiny", "prompt": "Which intent?", "max_tokens": 400, "concurrency": 2}
        body = {"stages": ["label"], "label": {**asked, "attempts": 20}}
        every = banking.rows("train")
        rows = every[:: len(every) // LABELLED]
        write(service.inputs / "questions.csv", rows)
        define(service, "fp32")
        job = service.trigger(MODEL, **body)
        folder = service.folder / "store" / "shared" / "answers"
        until(lambda: answered(folder) > len(rows) // 3, "a third of the answers", seconds=300)
        [victim] = service.processes("workers.run")
        victim.kill()
        ended = service.wait_for(job)
        if ended["status"] != "completed":
            raise RuntimeError(f"the labelling {ended['status']}: {ended['error']}")
    version = service.api.get(f"/data/versions/{MODEL}/{ended['data_version']}")
    found, kept = version["labelling"]["agreement"]["category"], answered(folder)
    texts, attempt = version["labelling"]["texts"], ended["attempt"]
    told.tell(
        f"kill -9 while labelling: {ended['status']} in attempt {attempt}, {texts} texts, {kept} answers kept, "
        f"kappa {found['kappa']:.3f} with a model that guesses",
        attempt == 2 and kept == texts and version["rows"] == len(rows) - version["texts"]["merged"],
    )


def answered(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))


def refuse(service: Service, told: Report) -> None:
    """What a source can do wrong: each a clear error, and no data version."""
    before = len(service.api.pages("/data/versions", 200, model=MODEL))
    rows = banking.rows("train")[:500]
    known = sorted({row["category"] for row in rows})
    bad: dict[str, tuple[Json, list[Row]]] = {
        "text_missing": ({}, [*rows, {"text": " ", "category": "pin_blocked"}]),
        "text_too_long": ({}, [*rows, {"text": "x" * 2**20, "category": "pin_blocked"}]),
        "label_unknown": ({"labels": known}, [*rows, {"text": "?", "category": "new"}]),
    }
    for code, (options, told_rows) in bad.items():
        write(service.inputs / "questions.csv", told_rows)
        define(service, "fp32", options)
        expect(service, told, code)
    write(service.inputs / "questions.csv", rows)
    part = service.inputs / "encoder"
    shutil.copytree(minilm(), part)
    (part / "tokenizer.json").unlink()
    define(service, "fp32", encoder=str(part))
    expect(service, told, "encoder_incomplete", stages=None)
    more = len(service.api.pages("/data/versions", 200, model=MODEL)) - before
    told.tell(f"{more} data version of what was refused but for its encoder", more == 1)


def expect(service: Service, told: Report, code: str, **body: Any) -> None:
    ended = service.wait_for(service.trigger(MODEL, **{"stages": ["snapshot"]} | body))
    found = (ended["error"] or {}).get("code")
    progress(f"{code}: {(ended['error'] or {}).get('message')}")
    told.tell(f"{code} refused", (ended["status"], found) == ("failed", code))


def share_of(service: Service, job: int) -> float:
    """How many of the training texts are embedded, by the job's note."""
    note = service.api.get("/training/status", job_id=job)["progress_note"] or ""
    done, slash, rest = note.partition("/")
    return int(done) / int(rest.split()[0]) if slash and "training texts" in note else 0.0


if __name__ == "__main__":
    main()
