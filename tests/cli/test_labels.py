"""Labels of a file: each fault by its line, what is kept already, and that all of it may be sent again."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.failures import Exit
from app.cli.labels import AT_ONCE, OUTCOMES
from app.cli.progress import counted
from tests.cli.made_up import MadeUpService, Refit, problem

CALL = "POST /feedback"


def labels(n: int, first: int = 0) -> str:
    return "".join(json.dumps({"request_id": f"{i:032x}", "label": 1}) + "\n" for i in range(first, first + n))


def kept(request: httpx.Request) -> dict[str, Any]:
    n = len(json.loads(request.content)["feedback"])
    return {"model": "fraud", "accepted": n, "joined": n - 1, "duplicate": 0, "corrected": 0, "pending": 1}


def bad(place: int, code: str = "invalid") -> httpx.Response:
    field = f"feedback.{place}.request_id"
    return problem(422, code, f"Not valid: {field}.", errors=[{"field": field, "message": "32 digits"}])


def test_a_long_file_goes_in_parts_and_is_told_as_one(service: MadeUpService, refit: Refit, tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text(labels(AT_ONCE + 5))
    service.on(CALL, kept)
    told = json.loads(refit("report", "feedback", str(tmp_path / "l.jsonl"), "--json").stdout)
    assert (told["accepted"], told["pending"]) == (AT_ONCE + 5, 2)
    assert [len(service.body(turn)["feedback"]) for turn in (0, 1)] == [AT_ONCE, 5]


@pytest.mark.parametrize("code", ["invalid", "invalid_feedback"])
def test_a_bad_item_is_named_by_its_line_with_what_was_kept_before_it(
    service: MadeUpService, refit: Refit, tmp_path: Path, code: str
) -> None:
    """An empty line before it counts as a line, and is no item."""
    (tmp_path / "l.jsonl").write_text("\n" + labels(AT_ONCE + 5))
    service.on(CALL, kept, bad(3, code))
    result = refit("report", "feedback", str(tmp_path / "l.jsonl"), "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 2
    assert told["detail"] == f"Not valid: line {AT_ONCE + 5}, request_id."
    assert told["errors"] == [{"field": f"line {AT_ONCE + 5}, request_id", "message": "32 digits"}]
    assert (told["code"], told["kept"]) == (code, AT_ONCE)
    assert f"line {AT_ONCE + 5}, request_id: 32 digits" in result.stderr
    assert f"{AT_ONCE} of {AT_ONCE + 5} items were sent and kept before that." in result.stderr
    assert "The whole file can be sent again: the same items change nothing." in result.stderr
    assert "feedback." not in result.stderr


def test_of_a_first_part_that_is_refused_nothing_was_kept(service: MadeUpService, refit: Refit) -> None:
    service.on(CALL, bad(1))
    result = refit("report", "feedback", "-", stdin=labels(2))
    assert "line 2, request_id" in result.stderr
    assert "Nothing was kept before that." in result.stderr


def test_a_service_that_goes_away_in_the_middle_leaves_what_was_kept(
    service: MadeUpService, refit: Refit, tmp_path: Path
) -> None:
    (tmp_path / "l.jsonl").write_text(labels(AT_ONCE + 5))
    service.on(CALL, kept, httpx.ConnectError("refused"))
    result = refit("report", "feedback", str(tmp_path / "l.jsonl"), "--json")
    assert result.exit_code == Exit.UNREACHABLE
    assert json.loads(result.stdout)["kept"] == AT_ONCE
    assert f"{AT_ONCE} of {AT_ONCE + 5} items" in result.stderr


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"label": NaN}', "label is nan"),
        ('{"label": 1e999}', "label is inf"),
        ('{"label": "\\ud800"}', "label is no text"),
        ('{"label": 1', "character"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_line_that_is_no_json_is_named_and_nothing_is_sent(
    service: MadeUpService, refit: Refit, line: str, named: str
) -> None:
    result = refit("report", "feedback", "-", stdin=labels(1) + "\n" + line + "\n")
    assert (result.exit_code, service.asked) == (2, [])
    assert "line 3" in result.stderr
    assert named in result.stderr
    assert "Nothing was sent." in result.stderr


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_of_an_empty_file_there_is_nothing_to_send(service: MadeUpService, refit: Refit, text: str) -> None:
    result = refit("report", "feedback", "-", "--json", stdin=text)
    assert (result.exit_code, service.asked) == (0, [])
    assert "nothing to send" in result.stderr
    assert json.loads(result.stdout) == dict.fromkeys(OUTCOMES, 0)


def test_how_far_it_is_shows_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counted("labels", 3) as show:
        show(2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with counted("labels", 3) as show:
        show(2)
    captured = capsys.readouterr()
    assert "2/3" in captured.err
    assert captured.out == ""
