"""Labels from a language model, also from one that is slow, broken, gone, or talks nonsense."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from app.data import endpoint
from app.data.endpoint import EndpointDown
from app.data.labelling import agreement, relabel
from app.data.language_model import LabelOptions
from app.data.sources import SourceOptions, options_of
from app.errors import Invalid
from benchmarks.texts.llama import llama
from tests.language_models import Body, Reply, Scripted, scripted

LABELS = ["a", "b"]
NOTES: list[str] = []


def rows(count: int = 20) -> pa.Table:
    return pa.table({"text": [f"text {n}" for n in range(count)], "y": ["a", "b"] * (count // 2)})


def data(**more: Any) -> SourceOptions:
    return options_of({"source": "samples", "label": "y", "labels": LABELS, "text": {"columns": ["text"]}} | more)


def options(url: str, **more: Any) -> LabelOptions:
    told = {"url": url, "model": "tiny", "prompt": "a or b?", "timeout_seconds": 5, "attempts": 3}
    return LabelOptions.model_validate(told | more)


def labelled(table: pa.Table, how: LabelOptions, shared: Path, **more: Any) -> tuple[list[Any], dict[str, Any]]:
    NOTES.clear()
    found, report = asyncio.run(relabel(table, data(**more), how, shared, lambda _, __, note: NOTES.append(note)))
    return found["y"].to_pylist(), report


def right(_: int, body: Body) -> Reply:
    """The label of an even text is a."""
    number = int(body["messages"][-1]["content"].split()[-1])
    return Reply(json.dumps({"y": "ab"[number % 2]}))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def model() -> Iterator[Scripted]:
    with scripted(right) as model:
        yield model


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_every_text_gets_its_label_and_the_report_says_how_far_both_agree(
    tmp_path: Path, model: Scripted, api: str
) -> None:
    before = rows().set_column(1, "y", pa.array(["a"] * 10 + ["b"] * 9 + [None]))
    after, report = labelled(before, options(model.url, api=api), tmp_path)
    assert after == LABELS * 10
    found = report["agreement"]["y"]
    assert (found["compared"], found["same"]) == (19, 9)
    assert found["labels"] == {"a": {"before": 10, "after": 10, "both": 5}, "b": {"before": 9, "after": 9, "both": 4}}
    assert {"text": "text 1", "before": "a", "after": "b"} in found["disagreements"]
    assert (report["model"], report["prompt"], report["asked"], report["failed"]) == ("tiny", "a or b?", 20, 0)
    assert re.fullmatch(r"20/20 texts, [\d.]+ a second, 0 min left", NOTES[-1])


def test_the_model_is_told_the_prompt_and_the_schema_of_the_labels(tmp_path: Path, model: Scripted) -> None:
    labelled(rows(2), options(model.url), tmp_path)
    asked = model.asked[0]
    assert asked["messages"][0] == {"role": "system", "content": "a or b?"}
    assert asked["response_format"]["json_schema"]["schema"]["properties"] == {"y": {"enum": LABELS}}


def test_no_more_than_the_agreed_number_are_asked_at_once(tmp_path: Path) -> None:
    with scripted(lambda n, body: Reply(right(n, body).content, seconds=0.05)) as model:
        labelled(rows(), options(model.url, concurrency=3), tmp_path)
    assert model.most_at_once == 3


def test_equal_texts_are_asked_about_once_and_again_never(tmp_path: Path, model: Scripted) -> None:
    table = pa.concat_tables([rows(), rows()])
    labelled(table, options(model.url), tmp_path)
    _, report = labelled(
        pa.concat_tables([table, pa.table({"text": ["text 99"], "y": ["a"]})]), options(model.url), tmp_path
    )
    assert (len(model.asked), report["asked"]) == (21, 1)


def test_rows_that_never_had_a_label_column_get_one(tmp_path: Path, model: Scripted) -> None:
    assert labelled(rows(2).drop_columns("y"), options(model.url), tmp_path)[0] == LABELS


def test_another_prompt_or_model_asks_again(tmp_path: Path, model: Scripted) -> None:
    for change in ({}, {"prompt": "which?"}, {"model": "large"}, {"concurrency": 1}):
        labelled(rows(4), options(model.url, **change), tmp_path)
    assert len(model.asked) == 12


def test_only_rows_without_a_label_are_asked_about_where_that_is_wanted(tmp_path: Path, model: Scripted) -> None:
    table = rows(4).set_column(1, "y", pa.array(["b", None, "b", None]))
    assert labelled(table, options(model.url, rows="unlabelled"), tmp_path)[0] == ["b", "b", "b", "b"]
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    "bad",
    [
        Reply("I think it is a."), Reply('{"y": "c"}'), Reply('{"z": "a"}'), Reply('{"y": "a", "why": "x"}'),
        Reply("[]"), Reply(""), Reply(status=500), Reply(status=503), Reply(status=429, headers={"retry-after": "0"}),
        Reply(cut=True), Reply(seconds=2.0), Reply(headers={"content-encoding": "gzip"}),
    ],
)  # fmt: skip
def test_a_bad_answer_is_asked_for_again(tmp_path: Path, bad: Reply) -> None:
    with scripted(lambda n, body: bad if n == 0 else right(n, body)) as model:
        after, report = labelled(rows(4), options(model.url, timeout_seconds=1), tmp_path)
    assert after == LABELS * 2
    assert (report["asked"], report["failed"]) == (5, 0)


def test_another_attempt_has_another_seed(tmp_path: Path) -> None:
    with scripted(lambda n, body: Reply("no") if n == 0 else right(n, body)) as model:
        labelled(rows(2), options(model.url, concurrency=1), tmp_path)
    assert [body["seed"] for body in model.asked] == [0, 1, 0]


def test_a_text_that_never_gets_an_answer_keeps_its_label_and_is_counted(tmp_path: Path) -> None:
    def script(n: int, body: Body) -> Reply:
        return Reply("?") if body["messages"][-1]["content"] == "text 3" else right(n, body)

    with scripted(script) as model:
        after, report = labelled(rows(), options(model.url, tolerated=0.05), tmp_path)
        assert (after[3], report["failed"]) == ("b", 1)
        assert report["failures"] == [{"text": "text 3", "reason": "it is not JSON"}]
        with pytest.raises(Invalid, match="1 of 20 texts have no answer") as refused:
            labelled(rows(), options(model.url, tolerated=0.04), tmp_path)
    assert refused.value.code == "labelling_failed"
    assert model.texts.count("text 1") == 1  # what was answered is kept all the same


@pytest.mark.parametrize("reply", [Reply(status=401), Reply(status=404), Reply(status=500)])
def test_a_model_that_refuses_is_told_with_its_status(tmp_path: Path, reply: Reply) -> None:
    with scripted(lambda _, __: reply) as model, pytest.raises(EndpointDown, match=f"HTTP {reply.status}") as told:
        labelled(rows(), options(model.url, concurrency=1), tmp_path)
    assert (told.value.code, len(model.asked)) == ("endpoint_unreachable", 3 if reply.status == 500 else 1)


def test_nobody_there_is_told_with_the_address(tmp_path: Path) -> None:
    with pytest.raises(EndpointDown, match=r"tiny at http://127.0.0.1:9 did not answer: ConnectError"):
        labelled(rows(), options("http://127.0.0.1:9"), tmp_path)


def test_a_model_that_stops_half_way_is_resumed_at_the_row(tmp_path: Path) -> None:
    with scripted(lambda n, body: right(n, body) if n < 10 else Reply(cut=True)) as model, pytest.raises(EndpointDown):
        labelled(rows(), options(model.url, concurrency=1), tmp_path)
    with scripted(right) as model:
        after, _ = labelled(rows(), options(model.url), tmp_path)
    assert (after, len(model.asked)) == (LABELS * 10, 10)


KILLED = """
import asyncio, sys
from pathlib import Path
from app.data.labelling import relabel
from tests.data.test_labelling import data, options, rows
asyncio.run(relabel(rows(200), data(), options(sys.argv[1], concurrency=2), Path(sys.argv[2]), lambda *_: None))
"""


def test_after_kill_9_no_row_is_lost_and_no_answer_is_asked_for_twice(tmp_path: Path) -> None:
    with scripted(lambda n, body: Reply(right(n, body).content, seconds=0.01)) as model:
        process = subprocess.Popen([sys.executable, "-c", KILLED, model.url, str(tmp_path)])
        while len(model.asked) < 60 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.1)
        asked = len(model.asked)
        assert 60 <= asked < 200
        after, report = labelled(rows(200), options(model.url, concurrency=2), tmp_path)
    assert after == LABELS * 100
    # The two that were under way when it died are asked for again.
    assert asked + report["asked"] <= 200 + 2


def test_the_key_comes_from_the_environment_and_stands_nowhere_else(
    tmp_path: Path, model: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = options(model.url, key="env:TINY_KEY")
    with pytest.raises(EndpointDown, match="TINY_KEY is not set"):
        labelled(rows(2), how, tmp_path)
    monkeypatch.setenv("TINY_KEY", "secret")
    _, report = labelled(rows(2), how, tmp_path)
    assert model.keys == ["Bearer secret"] * 2
    assert "secret" not in str(report)
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))


def test_labels_that_nobody_named_are_those_of_the_rows(tmp_path: Path, model: Scripted) -> None:
    assert labelled(rows(2), options(model.url), tmp_path, labels=None)[0] == LABELS
    with pytest.raises(Invalid) as refused:
        labelled(rows(2).set_column(1, "y", pa.array(["a", None])), options(model.url), tmp_path, labels=None)
    assert refused.value.code == "label_unknown"


@pytest.mark.parametrize(
    "change",
    [
        {"url": "ftp://x"},
        {"url": "http://x:99999"},
        {"url": "http://x/v1?a=1"},
        {"url": "http://user:pw@x"},
        {"key": "sk-123"},
        {"prompt": ""},
    ],
)
def test_options_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**{"url": "http://x"} | change)


@pytest.mark.parametrize(
    ("before", "after", "kappa"),
    [
        ("aabb", "aabb", 1.0),
        ("aabb", "abab", 0.0),
        ("aabb", "bbaa", -1.0),
        ("aaab", "aabb", 0.5),
        ("aaaa", "aaaa", None),
    ],
)
def test_kappa_is_what_chance_does_not_explain(before: str, after: str, kappa: float | None) -> None:
    found = agreement(["t"] * 4, list(before), list(after), range(4))["kappa"]
    assert found == pytest.approx(kappa) if kappa is not None else found is None


def test_a_real_llama_cpp_server_labels_by_the_schema(tmp_path: Path) -> None:
    with llama(tmp_path) as url:
        after, report = labelled(rows(), options(url, max_tokens=200, timeout_seconds=60), tmp_path, label="y")
    assert set(after) <= set(LABELS)
    assert (report["texts"], report["failed"]) == (20, 0)
    assert os.listdir(tmp_path / "answers")  # noqa: PTH208 - one look
