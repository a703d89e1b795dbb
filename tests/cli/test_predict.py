"""`refit predict`: any file in, the same rows with score and label out."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.failures import Exit
from tests.cli.made_up import MadeUpService, Refit, problem

CSV = 'id,amount,postcode,shop,note,is_fraud\nt1,1001.50,02139,Ann\'s,"a, b",0\nt2,NaN,10115,,,1\n'
ROLES = {"label": "is_fraud", "key": "id", "time": None, "ignore": ["note"], "features": None, "categorical": []}
PREDICT = "POST /predict/batch"

Files = Callable[[str, str], str]


def predicted(request: httpx.Request) -> dict[str, Any]:
    """Every row has the score 0.5 and the label 1."""
    rows = len(json.loads(request.content)["instances"])
    return {"version": 7, "generation": 3, "scores": [0.5] * rows, "labels": [1] * rows}


@pytest.fixture(autouse=True)
def answers(service: MadeUpService) -> None:
    service.on("GET /model/slots", {"model": "fraud"})
    service.on("GET /models/fraud", {"definition": {"data": ROLES}})
    service.on(PREDICT, predicted)


@pytest.fixture
def file(tmp_path: Path) -> Files:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_csv_file_comes_back_as_it_was_with_score_and_label(refit: Refit, file: Files) -> None:
    result = refit("predict", file("rows.csv", CSV))
    assert result.exit_code == 0
    before, after = (list(csv.DictReader(io.StringIO(text))) for text in (CSV, result.stdout))
    assert after == [row | {"score": "0.5", "label": "1"} for row in before]
    assert "2 rows by version 7 (generation 3)" in result.stderr


def test_only_features_are_sent_and_typed_by_their_column(refit: Refit, file: Files, service: MadeUpService) -> None:
    stderr = refit("predict", file("rows.csv", CSV)).stderr
    assert service.body()["instances"] == [
        {"amount": 1001.5, "postcode": 2139, "shop": "Ann's"},
        {"amount": None, "postcode": 10115, "shop": None},
    ]
    assert "id, note, is_fraud" in stderr


def test_named_features_are_all_that_is_sent(refit: Refit, file: Files, service: MadeUpService) -> None:
    service.on("GET /models/fraud", {"definition": {"data": ROLES | {"features": ["amount"]}}})
    refit("predict", file("rows.csv", CSV))
    assert service.body()["instances"] == [{"amount": 1001.5}, {"amount": None}]


def test_a_name_that_looks_like_a_number_is_sent_as_text(refit: Refit, file: Files, service: MadeUpService) -> None:
    service.on("GET /models/fraud", {"definition": {"data": ROLES | {"categorical": ["tariff"]}}})
    refit("predict", file("rows.csv", "tariff,amount\n1.10,1\n2.0,2.5\n"))
    assert service.body()["instances"] == [{"tariff": "1.10", "amount": 1.0}, {"tariff": "2.0", "amount": 2.5}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", '{"amount": 1}\n\n{"amount": null}\n'),
        ("rows.json", '[{"amount": 1}, {"amount": null}]'),
        ("rows.json", '{"instances": [{"amount": 1}, {"amount": null}]}'),
    ],
)
def test_json_in_is_json_lines_out(refit: Refit, file: Files, name: str, text: str) -> None:
    result = refit("predict", file(name, text))
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"amount": 1, "score": 0.5, "label": 1},
        {"amount": None, "score": 0.5, "label": 1},
    ]


def test_rows_that_are_lists_are_sent_as_they_are(refit: Refit, service: MadeUpService) -> None:
    result = refit("predict", "-", "--format", "jsonl", stdin="[1, 2]\n[3, 4]\n")
    assert service.body()["instances"] == [[1, 2], [3, 4]]
    assert result.stdout == '{"score": 0.5, "label": 1}\n' * 2


def test_stdin_needs_to_be_told_its_format(refit: Refit, service: MadeUpService) -> None:
    assert refit("predict", "-", stdin=CSV).exit_code == 2
    assert refit("predict", "-", "--format", "csv", stdin=CSV).exit_code == 0


def test_many_rows_go_in_batches_of_a_thousand(refit: Refit, file: Files, service: MadeUpService) -> None:
    result = refit("predict", file("rows.csv", "amount\n" + "1\n" * 2_500), "--slot", "standby", "-m", "fraud")
    batches = [json.loads(r.content) for r in service.asked if r.method == "POST"]
    assert [len(body["instances"]) for body in batches] == [1_000, 1_000, 500]
    assert {(body["model"], body["slot"]) for body in batches} == {("fraud", "standby")}
    assert len(result.stdout.splitlines()) == 2_501


def test_json_makes_lines_of_json_of_a_csv_file(refit: Refit, file: Files) -> None:
    rows = refit("predict", file("rows.csv", CSV), "--json").stdout.splitlines()
    assert json.loads(rows[0])["amount"] == 1001.5


def test_a_key_that_may_only_predict_sends_every_column(refit: Refit, file: Files, service: MadeUpService) -> None:
    service.on("GET /model/slots", problem(403, "forbidden"))
    assert refit("predict", file("rows.csv", "amount\n1\n")).exit_code == 0


def test_a_column_that_is_called_label_is_not_written_over(refit: Refit, file: Files, service: MadeUpService) -> None:
    rows = file("rows.csv", "amount,label\n1,0\n")
    result = refit("predict", rows)
    assert result.exit_code == 2
    assert "--only-predictions" in result.stderr
    assert refit("predict", rows, "--only-predictions").stdout == "score,label\n0.5,1\n"


def test_rows_that_are_refused_are_named(refit: Refit, file: Files, service: MadeUpService) -> None:
    service.on(PREDICT, predicted, problem(422, "invalid_instances", "row 3, column 'amount': expected a number"))
    rows = file("rows.csv", "amount\n" + "1\n" * 1_500)
    result = refit("predict", rows)
    assert result.exit_code == Exit.USAGE
    assert f"Error: Rows 1000 to 1499 of {rows}: row 3, column 'amount': expected a number" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("a.csv", "a,b\n1,2\n3\n", "line 3 has 1 cells, and the header 2"),
        ("a.csv", "a,a\n1,2\n", "names a column twice"),
        ("a.csv", 'a\n"1\n', "cannot be read as csv"),
        ("a.csv", "a\n", "has no rows"),
        ("a.csv", "a\n1e999\n", "too large"),
        ("a.csv", "", "has no rows"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2"),
        ("a.jsonl", '{"a": NaN}\n', "NaN"),
        ("a.jsonl", "3\n", "a row is an object, a list or a text"),
        ("a.json", '{"a": 1}', "instances"),
        ("a.json", "[", "cannot be read as json"),
        ("a.txt", "x", "--format"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_fault(
    refit: Refit, file: Files, service: MadeUpService, name: str, text: str, named: str
) -> None:
    result = refit("predict", file(name, text))
    assert result.exit_code == 2
    assert named in result.stderr
    assert not any(request.method == "POST" for request in service.asked)


def test_a_file_that_is_not_utf8_is_named(refit: Refit, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n\xff\n")
    result = refit("predict", str(tmp_path / "a.csv"))
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


def test_texts_are_rows_and_each_label_column_stands_under_its_name(
    refit: Refit, file: Files, service: MadeUpService
) -> None:
    heads = {"about": {"scores": [0.9], "labels": ["card"]}, "urgent": {"scores": [0.8], "labels": ["yes"]}}
    service.on(PREDICT, {"version": 7, "generation": 3, "scores": [0.9], "labels": ["card"], "heads": heads})
    result = refit("predict", file("a.jsonl", '"my card"\n'))
    assert json.loads(result.stdout) == {
        "text": "my card",
        "score": 0.9,
        "label": "card",
        "about_score": 0.9,
        "about_label": "card",
        "urgent_score": 0.8,
        "urgent_label": "yes",
    }
    assert service.body()["instances"] == ["my card"]
