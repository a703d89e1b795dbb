"""Two steps to a costly training, and what a reviewer reads and says, from a terminal."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.made_up import MadeUpService, Refit, ended, page

DIGEST, PROMPT, NEXT = "a" * 64, "0" * 16, "1" * 16
PATH = "/model/versions/assistant/7"


def sheet() -> dict[str, Any]:
    item = {
        "messages": [{"role": "user", "content": "Where?"}],
        "reference": "There.",
        "risk": "high",
        "answers": {"A": "Here\x1b[2J", "B": "There"},
    }
    return {"evaluation": DIGEST, "prompts": [item | {"prompt": PROMPT}, item | {"prompt": NEXT}], "notes": []}


def standing(**changes: Any) -> dict[str, Any]:
    told = {"model": "assistant", "version": 7, "state": "approved", "missing": [], "required": 1, "role": "operator"}
    return told | {"approvals": ["carol (c)"], "rejections": []} | changes


def planned(service: MadeUpService) -> None:
    end = ended(verdict=None, model="assistant", dry_run=True, plan={"steps": 3}, confirmation="12-0123456789ab")
    service.on("POST /training/trigger", end | {"outcome": "accepted", "warnings": []})
    service.on("GET /training/status", end)


def test_a_dry_run_ends_with_the_command_that_trains_what_it_planned(service: MadeUpService, refit: Refit) -> None:
    planned(service)
    found = refit("trigger", "assistant", "--dry-run", "-p", "lora={r: 8}", "-p", "base_model=it's")
    [line] = [line for line in found.stderr.splitlines() if line.startswith("to train it: ")]
    command = line.removeprefix("to train it: refit ")
    assert "--confirm 12-0123456789ab --wait" in command
    again = refit(*shlex.split(command))
    assert again.exit_code == 0
    body = service.body(-2)
    assert (body["params"], body["confirm"]) == ({"lora": {"r": 8}, "base_model": "it's"}, "12-0123456789ab")


def test_stages_are_asked_for_by_name(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/trigger", ended() | {"outcome": "accepted", "warnings": []})
    refit("trigger", "assistant", "--stage", "evaluate", "--stage", "publish", "--from-job", "3")
    assert (service.body()["stages"], service.body()["from_job"]) == (["evaluate", "publish"], 3)
    refit("trigger", "assistant")
    assert "stages" not in service.body()


def test_a_sign_off_says_which_evaluation_was_read(service: MadeUpService, refit: Refit, tmp_path: Path) -> None:
    service.on(f"GET {PATH}/evaluation-sheet", sheet())
    service.on(f"POST {PATH}/signoff", standing())
    chosen = tmp_path / "chosen.yaml"
    chosen.write_text(yaml.safe_dump({PROMPT: "A", NEXT: "tie"}))
    found = refit("signoff", "assistant", "7", "--approve", "--notes", "kinder", "--preferences", str(chosen))
    assert found.exit_code == 0
    preferences = {PROMPT: "A", NEXT: "tie"}
    told = {"verdict": "approve", "evaluation": DIGEST, "notes": "kinder", "preferences": preferences}
    assert service.body() == told
    chosen.write_text("A")
    assert refit("signoff", "assistant", "7", "--approve", "--preferences", str(chosen)).exit_code == 2


def test_a_reviewer_goes_through_the_sheet_prompt_by_prompt(service: MadeUpService, refit: Refit) -> None:
    service.on(f"GET {PATH}/evaluation-sheet", sheet())
    service.on(f"POST {PATH}/signoff", standing(state="rejected"))
    found = refit("signoff", "assistant", "7", "--interactive", stdin="B\nskip\nn\nrude\n")
    assert (found.exit_code, "\x1b" in found.stderr) == (0, False)
    assert service.body() == {
        "verdict": "reject",
        "evaluation": DIGEST,
        "notes": "rude",
        "preferences": {PROMPT: "B"},
    }


def test_the_sheet_and_the_notes_are_of_what_stands_by_where_no_version_is_named(
    service: MadeUpService, refit: Refit
) -> None:
    service.on("GET /model/slots", {"standby": 7})
    service.on(f"GET {PATH}/evaluation-sheet", sheet())
    service.on(f"GET {PATH}/release-notes", {"version": 7})
    assert DIGEST in refit("sheet", "assistant", "--json").stdout
    assert '"version": 7' in refit("release-notes", "assistant").stdout.replace('":7', '": 7')


@pytest.mark.parametrize("verdicts", [("--approve", "--reject"), ("--reject", "--approve"), ()])
def test_a_verdict_is_one_word_and_no_contradiction_is_recorded(
    service: MadeUpService, refit: Refit, verdicts: tuple[str, ...]
) -> None:
    service.on(f"GET {PATH}/evaluation-sheet", sheet())
    assert (refit("signoff", "assistant", "7", *verdicts).exit_code, service.asked) == (2, [])


@pytest.mark.parametrize("typed", ["", "A\n", "A\nB\n", "A\nB\ny\n"])
def test_an_input_that_ends_on_the_way_records_nothing_and_says_so(
    service: MadeUpService, refit: Refit, typed: str
) -> None:
    service.on(f"GET {PATH}/evaluation-sheet", sheet())
    found = refit("signoff", "assistant", "7", "--interactive", stdin=typed)
    assert (found.exit_code, "nothing was recorded" in found.stderr, "Aborted" in found.stderr) == (2, True, False)
    assert [request.method for request in service.asked] == ["GET"]


def test_ctrl_c_ends_a_sign_off_and_records_nothing(
    service: MadeUpService, refit: Refit, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.on(f"GET {PATH}/evaluation-sheet", sheet())
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.readline", _interrupted)
    found = refit("signoff", "assistant", "7", "--interactive")
    assert (found.exit_code, "nothing was recorded" in found.stderr) == (130, True)


def _interrupted(*_: Any) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", ["sheet", "release-notes", "evaluation"])
def test_a_model_without_a_version_is_not_found(service: MadeUpService, refit: Refit, command: str) -> None:
    service.on("GET /model/slots", {"standby": None})
    service.on("GET /model/versions", page())
    assert refit(command, "assistant").exit_code == 6
