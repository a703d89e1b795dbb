"""What each command asks of the service, and that stdout is data and nothing else."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from app.cli import COMMANDS, main
from app.cli.failures import MEANINGS, Exit
from tests.cli.made_up import MadeUpService, Refit, ended, gate, job, page, problem

SLOTS: dict[str, Any] = {
    "model": "fraud",
    "active": 6,
    "standby": 7,
    "previous": 5,
    "generation": 3,
    "revision": 9,
    "hold_reason": None,
    "watch_until": "2020-01-01T00:00:00Z",
    "settled": True,
    "replicas": [{"id": "r1", "host": "vm", "pid": 1, "served": 3, "warm": 7, "smoke": None, "error": None}],
}
SWAPPED: dict[str, Any] = {
    **{name: SLOTS[name] for name in ("model", "standby", "previous", "generation", "revision", "hold_reason")},
    "active": 7,
    "watch_until": None,
    "changed": True,
    "replicas": [{"id": "r1", "host": "vm", "served": 4, "took_ms": 3.2}],
    "missing": [],
}
VERSION: dict[str, Any] = {
    "model": "fraud",
    "number": 7,
    "job_id": 12,
    "definition_revision": 1,
    "data_version": "d" * 64,
    "format": "onnx",
    "artifact": "a" * 64,
    "size": 1_234,
    "metrics": {"f1": 0.9},
    "details": {},
    "gate": gate(),
    "verdict": "pass",
    "incumbent": 6,
    "created_at": "2026-11-21T08:00:00Z",
}
CHANGE = SLOTS | {"id": 1, "at": "2026-11-21T08:00:00Z", "action": "reloaded", "actor": "alice", "reason": "better"}
KEY: dict[str, Any] = {"id": "a1", "name": "ci", "roles": ["viewer"]}
KEPT_KEY = KEY | {"created_at": "2026-11-21T08:00:00Z", "created_by": "alice", "revoked_at": None}
INCIDENT = dict.fromkeys(("note", "closed_at", "closed_by", "evidence", "job_id", "model", "acknowledged_by")) | {
    "links": [{"kind": "job", "id": 12, "href": "/training/jobs/12"}],
    "occurrences": 2,
    "id": 3,
    "severity": "P1",
    "title": "labels are late",
    "opened_by": "alice",
    "opened_at": "2026-11-21T08:00:00Z",
}
CHECK = {
    "code": "insufficient_new_samples",
    "passed": True,
    "value": 12_000,
    "required": 10_000,
    "message": "12000 new labelled samples since the last training; 10000 are required.",
    "remedy": "Wait for data.",
    "forceable": True,
    "binds": "every",
    "details": None,
}
PREREQUISITES: dict[str, Any] = {
    "model": "fraud",
    "admitted": True,
    "admitted_automatically": False,
    "checks": [CHECK, CHECK | {"code": "no_live_worker", "passed": False, "binds": "nobody"}],
}
SCHEDULE = {
    "model": "fraud",
    "schedule": "0 2 * * 0",
    "missed": "run_once",
    "missed_minutes": 60.0,
    "next": ["2026-11-22T02:00:00Z"],
    "last": {"due_at": "2026-11-15T02:00:00Z", "fired_at": "", "outcome": "fired", "reason": None, "job_id": 12},
}
RETENTION: dict[str, Any] = {"dry_run": True, "jobs": [1], "log_lines": 7, "metric_points": 0} | {
    name: [] for name in ("checkpoints", "staging", "artifacts", "evaluations", "versions")
}
DEFINITION = {"type": "classifier", "data": {"source": "samples", "label": "y", "key": "id"}}
APPLIED = {"model": "fraud", "revision": 1, "definition": DEFINITION, "changed": True}

TARGET: dict[str, Any] = {
    "name": "pager",
    "type": "webhook",
    "url": "https://hooks.example.com/…",
    "headers": ["authorization"],
    "enabled": True,
    "failures": 0,
    "error": None,
    "created_at": "2026-11-21T08:00:00Z",
    "created_by": "alice",
}
RULE: dict[str, Any] = {
    "name": "on-call",
    "target": "pager",
    "model": None,
    "kinds": ["incident.*", "job.failed"],
    "min_severity": None,
    "group_seconds": 30.0,
    "cooldown_seconds": 900.0,
    "enabled": True,
    "created_at": "2026-11-21T08:00:00Z",
    "created_by": "alice",
}
DELIVERY: dict[str, Any] = {
    "id": 7,
    "message": "msg_1_a",
    "target": "pager",
    "rule": "on-call",
    "kind": "job.failed",
    "model": "fraud",
    "events": [1],
    "suppressed": 0,
    "state": "failed",
    "attempts": 10,
    "next_at": None,
    "error": "it answered 500",
    "created_at": "2026-11-21T08:00:00Z",
    "ended_at": "2026-11-24T08:00:00Z",
    "tries": [
        {"attempt": 10, "at": "2026-11-24T08:00:00Z", "status": 500, "ms": 3.0, "error": "it answered 500"},
    ],
}

CHECKED = {
    "model": "fraud",
    "monitor": "acceptance",
    "kind": "acceptance",
    "state": "breached",
    "reason": "40.0% of the answers were accepted over the last 3 cycles, fewer than 60%.",
    "numbers": {"mean": 0.4},
    "outcome": "accepted",
    "job_id": 12,
}
WHEN = {"version": 1, "checked_at": "2026-01-01T00:00:00Z", "due_at": "2026-01-01T01:00:00Z"}
MONITOR = CHECKED | WHEN | {"name": "acceptance", "since": "2026-01-01T00:00:00Z"}
FOUND = CHECKED | {"id": 3, "name": "drift", "at": "2026-01-01T00:00:00Z", "version": 1, "outcome": "cooldown"}
WATCH = {
    "id": 7,
    "model": "fraud",
    "generation": 2,
    "version": 2,
    "previous": 1,
    "state": "rolled_back",
    "started_at": "2026-01-01T00:00:00Z",
    "until": "2026-01-01T00:30:00Z",
    "promised": {"errors": {"limit": 0.01}, "f1:y": {"limits": {"yes": 0.88}}},
    "numbers": {
        "checks": {
            "errors": {"n": 900, "value": 0.2, "evidence": 7.0, "needed": 6.25},
            "f1:y": {"n": 0, "value": None, "evidence": None, "needed": 5.3},
        }
    },
    "reason": "180 of 900 requests failed",
}

TRIAL: dict[str, Any] = dict.fromkeys(("ends_at", "ended_at", "why"), None) | {
    "id": 4,
    "model": "fraud",
    "kind": "canary",
    "share": 0.1,
    "active": 6,
    "standby": 7,
    "state": "running",
    "started_at": "2026-11-21T08:00:00Z",
    "requests": 90,
}
ESTIMATE = {"value": 0.912, "low": 0.88, "high": 0.94, "n": 300}
ARM: dict[str, Any] = {"version": 6, "slot": "active", "labels": {"yes": 0.25}, "mean_score": None} | {
    **dict.fromkeys(("requests", "rows", "errors", "invalid", "latency_p50", "latency_p99"), 1),
    **dict.fromkeys(("error_rate", "accuracy", "f1", "acceptance"), ESTIMATE),
}
REPORT: dict[str, Any] = {
    "trial": TRIAL,
    "active": ARM,
    "standby": ARM | {"version": 7, "slot": "standby"},
    "differences": {"f1": ESTIMATE | {"value": None}},
    "compared": {"rows": 90, "agreement": ESTIMATE, "mean_score_difference": 0.01, "dropped": 2},
}
LOGGED = {"at": "2026-11-21T08:00:00Z", "request_id": "a" * 32, "version": 6, "slot": "active", "rows": [{"x": 1}]}

EVALUATION: dict[str, Any] = {
    "gate": {"criteria": [], "mode": "point", "rows": 60, "incumbent": 6, "reason": "token_f1: a loss."},
    "corpus": {"bleu": {"candidate": 0.25, "low": 0.2, "high": 0.3, "incumbent": 0.5, "delta": -0.25}},
    "rows": [
        {
            "messages": [{"role": "user", "content": "What is 2 plus 3?"}],
            "reference": "5",
            "candidate": {"text": "4"},
            "incumbent": None,
        }
    ],
    "notes": [],
}

# Command → what it must ask, what it is answered, what a person must see.
ANSWERED: dict[str, tuple[str, Any, str]] = {
    "evaluation fraud 7": ("GET /model/versions/fraud/7/evaluation", EVALUATION, "0.2000 to 0.3000"),
    "evaluation --job 12": ("GET /training/jobs/12/evaluation", EVALUATION, "candidate  4"),
    "slots fraud": ("GET /model/slots", SLOTS, "standby     7"),
    "reload fraud": ("POST /model/reload", SWAPPED, "3.2 ms"),
    "rollback fraud --reason worse": ("POST /model/rollback", SWAPPED, "3.2 ms"),
    "hold --reason audit": ("POST /model/hold", SLOTS | {"hold_reason": "audit"}, "held        audit"),
    "unhold --reason done": ("POST /model/unhold", SLOTS, "generation  3"),
    "history": ("GET /model/history", page(CHANGE), "reloaded"),
    "history --at 2026-11-21T08:30": (
        "GET /model/history",
        page(CHANGE | {"made_active": {"at": "2026-11-20T08:00:00Z", "action": "", "actor": "bob", "reason": None}}),
        "bob",
    ),
    "versions list": ("GET /model/versions", page(VERSION), "0.9100"),
    "versions show 7 -m fraud": ("GET /model/versions/fraud/7", VERSION, "onnx, 1,234 bytes"),
    "versions stage 7 -m fraud": ("POST /model/versions/fraud/7/stage", SLOTS, "7"),
    "versions diff 6 7": (
        "GET /model/diff",
        {"model": "fraud", "older": 6, "newer": 7, "differences": {"gate.f1": {"older": 0.9, "newer": 0.91}}},
        "gate.f1",
    ),
    "status": ("GET /training/status", ended(), "0.9100"),
    "trigger": ("POST /training/trigger", job() | {"outcome": "coalesced", "warnings": ["no worker"]}, "12"),
    "prerequisites fraud": ("GET /training/prerequisites", PREREQUISITES, "12000"),
    "schedule list": ("GET /schedule", [SCHEDULE], "2026-11-22 02:00:00Z"),
    "retention run --dry-run": ("POST /retention/run", RETENTION, "of 1 jobs"),
    "jobs list": ("GET /training/jobs", page(job(), ended()), "10.0 s"),
    "jobs show 12": ("GET /training/jobs/12", job(), "40 %"),
    "jobs resume 11": ("POST /training/jobs/11/resume", job(), "12"),
    "models list": (
        "GET /models",
        [{"name": "fraud", "type": "classifier", "revision": 1, "created_at": "2026-11-21T08:00:00Z"}],
        "2026-11-21 08:00:00Z",
    ),
    "models show fraud": ("GET /models/fraud", APPLIED, "label: y"),
    "keys create ci --role viewer": ("POST /keys", KEY | {"key": "refit_a1_secret"}, "refit_a1_secret"),
    "keys list": ("GET /keys", [KEPT_KEY], "viewer"),
    "keys revoke a1": ("DELETE /keys/a1", KEPT_KEY, "a1"),
    "monitors check fraud": ("POST /monitoring/check", {"checks": [CHECKED], "jobs": [12]}, "job 12"),
    "monitors check fraud --look": ("POST /monitoring/check", {"checks": [CHECKED], "jobs": []}, "breached"),
    "monitors list fraud": ("GET /monitoring/monitors", [MONITOR], "fewer than 60%"),
    "monitors log fraud drift": ("GET /monitoring/checks", page(FOUND), "refused: cooldown"),
    "watches list --state passed": ("GET /monitoring/watches", page(WATCH), "rolled_back"),
    "watches show 7": ("GET /monitoring/watches/7", WATCH, "100%"),
    "canary start fraud --share 0.1 --reason try": ("POST /model/canary", TRIAL, "4"),
    "canary stop fraud --reason enough": ("POST /model/canary/stop", TRIAL, "4"),
    "canary show fraud": ("GET /model/trial", REPORT, "0.912 (0.88–0.94, n = 300)"),
    "shadow start fraud --reason try": ("POST /model/shadow", TRIAL, "4"),
    "shadow stop fraud --reason enough": ("POST /model/shadow/stop", TRIAL, "4"),
    "shadow show fraud": ("GET /model/trial", REPORT, "requests left out"),
    "report learning 0.55 --cycle 12": ("POST /metrics/learning", {"id": 5, "replayed": True}, "5"),
    "report metric bleu 0.31 --version 7": (
        "POST /metrics/observations",
        {"model": "fraud", "accepted": 1, "duplicate": 0},
        "duplicate",
    ),
    "report logged fraud": ("GET /predictions/log", page(LOGGED), "a" * 32),
    "incidents list": ("GET /incidents", page(INCIDENT), "labels are late"),
    "incidents show 3": ("GET /incidents/3", INCIDENT, "/training/jobs/12"),
    "incidents ack 3 --note mine": ("POST /incidents/3/acknowledge", INCIDENT, "3"),
    "notifications targets list": ("GET /notifications/targets", [TARGET], "https://hooks.example.com/…"),
    "notifications targets add pager https://hooks.example.com/x --header a:b": (
        "POST /notifications/targets",
        TARGET | {"secret": "whsec_x"},
        "whsec_x",
    ),
    "notifications targets rotate pager": (
        "POST /notifications/targets/pager/rotate",
        TARGET | {"secret": "whsec_y"},
        "whsec_y",
    ),
    "notifications targets enable pager": ("PATCH /notifications/targets/pager", TARGET, "pager"),
    "notifications targets disable pager": ("PATCH /notifications/targets/pager", TARGET, "pager"),
    "notifications targets remove pager": ("DELETE /notifications/targets/pager", TARGET, "pager"),
    "notifications rules list": ("GET /notifications/rules", [RULE], "incident.*, job.failed"),
    "notifications rules set on-call --target pager": ("PUT /notifications/rules/on-call", RULE, "on-call"),
    "notifications rules remove on-call": ("DELETE /notifications/rules/on-call", RULE, "on-call"),
    "notifications deliveries list --state failed": ("GET /notifications/deliveries", page(DELIVERY), "job.failed"),
    "notifications deliveries show 7": ("GET /notifications/deliveries/7", DELIVERY, "it answered 500"),
    "notifications redeliver 7": ("POST /notifications/deliveries/7/redeliver", DELIVERY, "msg_1_a"),
    "notifications test pager": (
        "POST /notifications/targets/pager/test",
        {"target": "pager", "message": "msg_test_1", "delivered": True, "status": 200, "ms": 4.2, "error": None},
        "delivered in 4.2 ms",
    ),
    "incidents open late --severity P1": ("POST /incidents", INCIDENT, "3"),
    "incidents close 3 --note fixed": ("POST /incidents/3/close", INCIDENT, "3"),
}


@pytest.mark.parametrize("command", ANSWERED)
def test_each_command_answers_people_and_programs(service: MadeUpService, refit: Refit, command: str) -> None:
    call, answer, seen = ANSWERED[command]
    service.on(call, answer)
    for_people, for_programs = refit(*command.split()), refit(*command.split(), "--json")
    assert (for_people.exit_code, for_programs.exit_code) == (0, 0)
    assert seen in for_people.stdout
    assert not any(line.endswith(" ") for line in for_people.stdout.splitlines())
    assert json.loads(for_programs.stdout) == (answer["data"] if "data" in answer and call[:3] == "GET" else answer)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = (*path, name)
        found += commands(command, inner) if isinstance(command, click.Group) else [(inner, command)]
    return found


@pytest.mark.parametrize(("path", "command"), commands(main), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_has_json_and_says_what_it_does(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    if path not in {("up",), ("migrate",)}:
        assert f"refit {' '.join(path)}" in str(command.epilog)
    if path != ("migrate",):  # it answers nothing
        assert "--json" in {name for parameter in command.params for name in parameter.opts}


def test_help_lists_every_command_and_every_exit_code(refit: Refit) -> None:
    shown = refit("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert all(f"{code}  {meaning}" in shown for code, meaning in MEANINGS.items())
    assert set(MEANINGS) == set(Exit)


def test_a_command_that_is_not_there_is_a_usage_error(refit: Refit) -> None:
    assert refit("relaod").exit_code == 2


def test_a_swap_that_is_not_true_everywhere_yet_is_told(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /model/reload", SWAPPED | {"missing": ["r2"]})
    result = refit("reload", "--json")
    assert result.exit_code == Exit.TIMED_OUT
    assert json.loads(result.stdout)["missing"] == ["r2"]
    assert "r2" in refit("reload").stderr


def test_rollback_asks_for_its_reason_and_never_waits_for_one(service: MadeUpService, refit: Refit) -> None:
    result = refit("rollback", "fraud")
    assert result.exit_code == 2
    assert "--reason" in result.stderr
    assert service.asked == []


def test_rollback_says_what_was_chosen(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /model/rollback", SWAPPED)
    refit("rollback", "--reason", "worse", "--version", "5", "--no-hold", "--expected-active", "7")
    assert service.body() == {"reason": "worse", "version": 5, "hold": False, "expected_active": 7}
    refit("rollback", "--reason", "worse")
    assert service.body() == {"reason": "worse", "hold": True}


def test_params_are_typed_as_in_yaml(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/trigger", job() | {"outcome": "accepted", "warnings": []})
    refit("trigger", "-p", "epochs=50", "-p", "families=[mlp]", "-p", "class_weight=none", "-p", "learning_rate=1.5e-3")
    assert service.body()["params"] == {
        "epochs": 50,
        "families": ["mlp"],
        "class_weight": "none",
        "learning_rate": 1.5e-3,
    }


def test_the_strategy_is_the_definitions_unless_it_is_named(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/trigger", job() | {"outcome": "accepted", "warnings": []})
    refit("trigger", "fraud")
    assert service.body().get("strategy") is None
    refit("trigger", "fraud", "--strategy", "incremental")
    assert service.body()["strategy"] == "incremental"
    assert refit("trigger", "fraud", "--strategy", "quick").exit_code == 2


@pytest.mark.parametrize("param", ["epochs", "=5", "families=[mlp"])
def test_a_param_that_is_none_is_a_usage_error(service: MadeUpService, refit: Refit, param: str) -> None:
    assert refit("trigger", "-p", param).exit_code == 2
    assert service.asked == []


def test_a_time_without_a_zone_is_utc(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /model/history", page())
    refit("history", "--at", "2026-11-21T03:00")
    refit("history", "--at", "2026-11-21T03:00+02:00")
    assert [r.url.params["at"] for r in service.asked] == ["2026-11-21T03:00:00+00:00", "2026-11-21T03:00:00+02:00"]
    assert refit("history", "--at", "yesterday").exit_code == 2


def test_a_list_goes_on_over_pages_as_far_as_its_limit(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /training/jobs", page(job(job_id=3), job(job_id=2), after="2"), page(job(job_id=1)))
    result = refit("jobs", "list", "--json", "--limit", "5")
    assert [row["job_id"] for row in json.loads(result.stdout)] == [3, 2, 1]
    assert service.asked[1].url.params["after"] == "2"


def line(id: int) -> dict[str, Any]:
    return {"id": id, "attempt": 1, "at": "2026-11-21T08:00:00Z", "line": f"line {id}"}


def test_logs_are_followed_until_the_job_has_ended(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /training/jobs/12/logs", page(line(1)), page(line(2), after="2"), page(line(3)), page(line(4)))
    service.on("GET /training/status", job(), ended())
    result = refit("jobs", "logs", "12", "-f", "--json")
    assert [json.loads(shown)["id"] for shown in result.stdout.splitlines()] == [1, 2, 3, 4]
    asked = [r.url.params["after"] for r in service.asked if r.url.path.endswith("logs")]
    assert asked == ["0", "1", "2", "3"]


def test_the_model_of_a_version_is_resolved_by_the_service(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /model/slots", SLOTS)
    service.on("GET /model/versions/fraud/7", VERSION)
    assert refit("versions", "show", "7").exit_code == 0


def test_apply_means_paths_from_the_folder_of_its_file(service: MadeUpService, refit: Refit, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        "fraud: {type: classifier, data: {source: file, path: data/*.csv, label: y}}\n"
        "churn: {type: classifier, data: {source: file, path: /else/where.csv, label: y}}\n"
    )
    service.on("PUT /models/fraud", APPLIED)
    service.on("PUT /models/churn", APPLIED | {"model": "churn"})
    result = refit("models", "apply", str(file), "--json")
    assert [row["model"] for row in json.loads(result.stdout)] == ["fraud", "churn"]
    assert [service.body(turn)["data"]["path"] for turn in (0, 1)] == [f"{tmp_path}/data/*.csv", "/else/where.csv"]


def test_apply_names_the_definition_that_is_refused(service: MadeUpService, refit: Refit, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("fraud: {type: classifier}\nchurn: {type: other}\n")
    service.on("PUT /models/fraud", APPLIED)
    service.on("PUT /models/churn", problem(422, "unknown_model_type", "No worker has announced it."))
    result = refit("models", "apply", str(tmp_path / "m.yaml"))
    assert result.exit_code == 2
    assert "fraud: applied, revision 1" in result.stderr
    assert "Error: churn: No worker has announced it." in result.stderr


@pytest.mark.parametrize("text", ["", "- a", "fraud: 3", "a: [", "\x00"])
def test_apply_refuses_what_is_no_definition(refit: Refit, service: MadeUpService, text: str) -> None:
    assert refit("models", "apply", "-", stdin=text).exit_code == 2
    assert service.asked == []


def test_what_show_prints_apply_takes(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /models/fraud", APPLIED)
    service.on("PUT /models/fraud", APPLIED | {"changed": False})
    shown = refit("models", "show", "fraud").stdout
    assert refit("models", "apply", "-", stdin=shown).exit_code == 0
    assert service.body() == DEFINITION


def test_a_test_message_that_does_not_arrive_is_a_failure_of_the_command(service: MadeUpService, refit: Refit) -> None:
    told = {"target": "pager", "message": "m", "delivered": False, "status": 500, "ms": 4.2, "error": "it answered 500"}
    service.on("POST /notifications/targets/pager/test", told)
    result = refit("notifications", "test", "pager")
    assert (result.exit_code, result.stdout) == (Exit.ERROR, "")
    assert "pager was not reached: it answered 500." in result.stderr
