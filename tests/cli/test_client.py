"""How commands fail: every problem of the service has its exit code, its words and its JSON."""

import json
from pathlib import Path

import httpx
import pytest

from app.cli.failures import BY_STATUS, Exit
from app.errors import RefitError
from tests.cli.made_up import MadeUpService, Refit, job, problem

SLOTS = "GET /model/slots"


def children(error: type[RefitError]) -> list[type[RefitError]]:
    return [error, *(child for direct in error.__subclasses__() for child in children(direct))]


@pytest.mark.parametrize(
    ("status", "code"),
    [(422, 2), (413, 2), (409, 5), (412, 5), (404, 6), (401, 7), (403, 7), (503, 10), (500, 1)],
)
def test_each_kind_of_problem_has_its_exit_code(service: MadeUpService, refit: Refit, status: int, code: int) -> None:
    service.on(SLOTS, problem(status, "some_code", "It cannot be.", remedy="Do this."))
    result = refit("slots")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == "Error: It cannot be.\nDo this.\n"


def test_every_status_that_the_service_raises_is_mapped() -> None:
    assert {error.status for error in children(RefitError)} - {500} <= BY_STATUS.keys()


@pytest.mark.parametrize("code", ["verdict_fail", "verdict_inconclusive"])
def test_a_reload_that_the_gate_forbids_is_told_from_other_conflicts(
    service: MadeUpService, refit: Refit, code: str
) -> None:
    service.on("POST /model/reload", problem(409, code))
    assert refit("reload").exit_code == Exit.GATE_REFUSED
    service.on("POST /model/reload", problem(409, "stale_gate"))
    assert refit("reload").exit_code == Exit.CONFLICT


def test_nothing_to_roll_back_to_is_a_conflict(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /model/rollback", problem(409, "nothing_to_roll_back_to"))
    assert refit("rollback", "--reason", "it is worse").exit_code == 5


def test_under_json_the_problem_is_the_one_document_on_stdout(service: MadeUpService, refit: Refit) -> None:
    service.on(SLOTS, problem(404, "model_not_found", "No model is called 'x'."))
    result = refit("slots", "x", "--json")
    assert result.exit_code == 6
    assert json.loads(result.stdout)["code"] == "model_not_found"
    assert "No model is called" in result.stderr


def test_the_model_that_must_be_named_is_named_as_commands_do(service: MadeUpService, refit: Refit) -> None:
    told = {"remedy": 'Send "model" with one of: churn, fraud.', "models": ["churn", "fraud"]}
    service.on(SLOTS, problem(422, "model_ambiguous", "Several models could be meant; name one.", **told))
    result = refit("slots", "--json")
    assert "Name one, as MODEL or with -m: churn, fraud." in result.stderr
    assert json.loads(result.stdout)["remedy"] == told["remedy"]


def test_every_reason_is_named_with_its_way_out(service: MadeUpService, refit: Refit) -> None:
    reasons = [
        {"code": "open_p1_incident", "message": "A P1 is open.", "remedy": "Close it."},
        {"code": "cooldown", "message": "Too soon.", "remedy": "Wait."},
    ]
    refusal = problem(409, "open_p1_incident", "A P1 is open. Too soon.", remedy="Close it.", reasons=reasons)
    service.on("POST /training/trigger", refusal)
    stderr = refit("trigger").stderr
    assert "A P1 is open. Too soon." in stderr
    assert "cooldown: Wait." in stderr
    assert stderr.count("Close it.") == 1


def test_every_bad_field_is_named(service: MadeUpService, refit: Refit) -> None:
    errors = [{"field": "training.epochs", "message": "0 is less than 1"}, {"field": "gate", "message": "unknown"}]
    service.on("POST /training/trigger", problem(422, "invalid", "Not valid.", errors=errors))
    result = refit("trigger")
    assert result.exit_code == 2
    assert "training.epochs: 0 is less than 1" in result.stderr
    assert "gate: unknown" in result.stderr


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(502, html="<h1>Bad Gateway</h1>"),
        httpx.Response(200, html="<h1>Welcome</h1>"),
        httpx.Response(404, html="<h1>nginx</h1>"),
    ],
)
def test_whoever_is_not_refit_is_unreachable(
    service: MadeUpService, refit: Refit, answer: httpx.Response | Exception
) -> None:
    service.on(SLOTS, answer)
    result = refit("slots", "--json")
    assert result.exit_code == Exit.UNREACHABLE
    assert json.loads(result.stdout)["code"] == "unreachable"
    assert "REFIT_URL" in result.stderr


def test_a_trigger_survives_a_service_that_is_away_and_sends_the_same_key(service: MadeUpService, refit: Refit) -> None:
    accepted = job() | {"outcome": "accepted", "warnings": []}
    service.on("POST /training/trigger", httpx.ConnectError("refused"), httpx.Response(502), accepted)
    result = refit("trigger", "fraud")
    assert result.exit_code == 0
    assert result.stdout == "12\n"
    keys = {request.headers["Idempotency-Key"] for request in service.asked}
    assert len(service.asked) == 3
    assert len(keys) == 1


def test_a_call_that_may_not_be_made_twice_is_made_once(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /model/reload", httpx.ReadTimeout("slow"))
    assert refit("reload").exit_code == Exit.UNREACHABLE
    assert len(service.asked) == 1


def test_two_triggers_have_two_keys(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/trigger", job() | {"outcome": "accepted", "warnings": []})
    refit("trigger")
    refit("trigger")
    assert len({request.headers["Idempotency-Key"] for request in service.asked}) == 2


@pytest.mark.parametrize(("url", "sent"), [("http://localhost:1", True), ("http://elsewhere.example", False)])
def test_the_admin_key_of_this_machine_is_sent_to_this_machine_alone(
    service: MadeUpService, refit: Refit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, sent: bool
) -> None:
    monkeypatch.delenv("REFIT_API_KEY")
    monkeypatch.setenv("REFIT_URL", url)
    (tmp_path / "admin.key").write_text("refit_admin_secret\n")
    refit("slots")
    assert service.asked[0].headers.get("Authorization") == ("Bearer refit_admin_secret" if sent else None)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [("REFIT_PORT", "x", "REFIT_PORT"), ("REFIT_URL", "localhost:80", "http://"), ("REFIT_API_KEY", "refit_…", "key")],
)
def test_an_environment_that_is_wrong_is_named(
    service: MadeUpService, refit: Refit, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    result = refit("slots")
    assert result.exit_code == 2
    assert named in result.stderr
    assert service.asked == []


def test_what_others_wrote_cannot_steer_the_terminal(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /training/jobs/12", job(note="\x1b]0;title\x07", reason="gone"))
    assert "\x07" not in refit("jobs", "show", "12").stdout
    service.on("GET /training/jobs/12", problem(409, "x", "\x1b]0;title\x07"))
    assert "\x07" not in refit("jobs", "show", "12").stderr


@pytest.mark.parametrize(
    "command",
    [
        "history --at nope --json",
        "history --json --at nope",
        "history --json --nope",
        "history --nope --json",
        "watches show abc --json",
        "watches nope --json",
        "record 2 --markdown --json",
        "rollback fraud --json",
        "predict nowhere.csv --json",
        "relaod --json",
    ],
)
def test_under_json_what_is_wrong_on_the_command_line_is_a_document_too(
    service: MadeUpService, refit: Refit, command: str
) -> None:
    result = refit(*command.split())
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["code"] == "usage"
    assert f"Error: {told['detail']}" in result.stderr


def test_without_json_nothing_is_on_stdout_where_the_command_line_is_wrong(refit: Refit) -> None:
    assert refit("history", "--at", "nope").stdout == ""
    assert refit("history", "--nope", "--", "--json").stdout == ""
