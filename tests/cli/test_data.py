"""`refit data`: take, label, list, show, export."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.failures import Exit
from tests.cli.made_up import MadeUpService, Refit, ended, job, page, problem

DIGEST = "d1" * 32
VERSION: dict[str, Any] = {
    "model": "news",
    "digest": DIGEST,
    "role": "training",
    "rows": 5,
    "counts": {"train": 3, "validation": 1, "holdout": 1, "retired": 0},
    "dropped": {"label": 1, "text": 0},
    "duplicates": 0,
    "texts": {"merged": 2, "contradictory": 4, "near_duplicates": 0, "retired": 0, "moved": 0},
    "labelling": None,
    "labels": [{"column": "y", "label": "a", "rows": 3}],
    "columns": [{"name": name, "type": "string"} for name in ("text", "question", "answer")],
    "created_at": "2026-11-21T08:00:00Z",
}
LABELLING = {
    "model": "qwen3:32b",
    "prompt_sha256": "ab" * 32,
    "asked": 7,
    "agreement": {
        "y": {
            "compared": 5,
            "same": 4,
            "kappa": 0.61803,
            "labels": {"a": {"before": 3, "after": 2, "both": 2}},
            "disagreements": [{"text": "a text", "before": "a", "after": "b"}],
        }
    },
}
ROWS = {"train": b'{"a":1}\n{"a":2}\n{"a":3}\n', "validation": b'{"a":4}\n', "holdout": b'{"a":5}\n'}
TRIGGER = "POST /training/trigger"


def rows(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=ROWS[request.url.params["side"]])


@pytest.fixture(autouse=True)
def answers(service: MadeUpService) -> None:
    service.on("GET /model/slots", {"model": "news"})
    service.on("GET /data/versions/news/latest", VERSION)
    service.on(f"GET /data/versions/news/{DIGEST}", VERSION | {"labelling": LABELLING})
    service.on(
        f"GET /data/versions/news/{DIGEST}/rows", lambda r: httpx.Response(200, content=ROWS[r.url.params["side"]])
    )
    service.on(TRIGGER, job(model="news", status="queued") | {"outcome": "accepted", "warnings": []})
    service.on("GET /training/status", ended(verdict=None, model="news", data_version=DIGEST))


def test_export_writes_the_runbooks_files(service: MadeUpService, refit: Refit, tmp_path: Path) -> None:
    result = refit("data", "export", "--to", str(tmp_path / "final"))
    assert result.exit_code == 0, result.output
    found = {path.name: path.read_bytes() for path in (tmp_path / "final").iterdir()}
    assert found == {
        "train.jsonl": ROWS["train"],
        "validation.jsonl": ROWS["validation"],
        "test.jsonl": ROWS["holdout"],
    }


def test_export_for_fine_tuning_has_the_names_that_it_wants(refit: Refit, tmp_path: Path) -> None:
    told = json.loads(refit("data", "export", "news", "--to", str(tmp_path), "--format", "sft", "--json").stdout)
    assert {Path(file).name: rows for file, rows in told["files"].items()} == {"train_sft.jsonl": 3, "val_sft.jsonl": 1}
    assert told["data_version"] == DIGEST


def test_a_file_that_stands_there_is_replaced_whole_or_not_at_all(
    service: MadeUpService, refit: Refit, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text("before")
    service.on(f"GET /data/versions/news/{DIGEST}/rows", problem(500, "snapshot_corrupt"))
    assert refit("data", "export", "--to", str(tmp_path)).exit_code != 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("train.jsonl", "before")]


def test_take_asks_for_the_snapshot_alone(service: MadeUpService, refit: Refit) -> None:
    assert refit("data", "take", "news", "--wait").exit_code == 0
    asked = next(json.loads(r.content) for r in service.asked if r.method == "POST")
    assert (asked["model"], asked["stages"]) == ("news", ["snapshot"])


def test_label_sends_what_was_said_and_shows_how_far_both_agree(
    service: MadeUpService, refit: Refit, tmp_path: Path
) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("a or b?")
    result = refit("data", "label", "news", "--all", "--model", "qwen3:32b", "--prompt", str(prompt), "--wait")
    assert result.exit_code == 0, result.output
    asked = next(json.loads(r.content) for r in service.asked if r.method == "POST")
    assert asked["stages"] == ["label"]
    assert asked["label"] == {"model": "qwen3:32b", "prompt": "a or b?", "rows": "all"}
    assert "4 of 5 labels as before, kappa 0.618" in result.stdout
    assert "a → b: a text" in result.stdout


def test_label_in_json_is_one_document(refit: Refit) -> None:
    assert json.loads(refit("data", "label", "news", "--wait", "--json").stdout)["data_version"] == DIGEST


def test_a_labelling_that_failed_ends_as_a_failed_job(service: MadeUpService, refit: Refit) -> None:
    error = {"code": "endpoint_unreachable", "message": "Nobody there.", "remedy": "Start it."}
    service.on("GET /training/status", ended("failed", None, model="news", error=error))
    result = refit("data", "label", "news", "--wait")
    assert result.exit_code == Exit.JOB_FAILED
    assert "Nobody there. Start it." in " ".join(result.stderr.split())


def test_show_and_list_say_who_gave_the_labels(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /data/versions", page(VERSION | {"labelling": LABELLING}))
    assert "qwen3:32b" in refit("data", "list").stdout
    shown = refit("data", "show").stdout
    assert "4 contradictory" in shown
    assert DIGEST in shown
