"""Waiting for a job: how it is asked for, how it ends, and that Ctrl-C leaves it alone."""

import json

import httpx
import pytest

from app.cli.failures import Exit
from tests.cli.made_up import MadeUpService, Refit, ended, job, problem

STATUS = "GET /training/status"
TRIGGER = "POST /training/trigger"
ACCEPTED = job(status="queued", stage=None) | {"outcome": "accepted", "warnings": []}
FAILED = ended("failed", error={"code": "data_imbalance", "message": "One class.", "remedy": "Use SMOTE."})


def news(told: object, etag: str = '"1"') -> httpx.Response:
    return httpx.Response(200, json=told, headers={"ETag": etag})


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ended(), Exit.DONE),
        (FAILED, Exit.JOB_FAILED),
        (ended("cancelled"), Exit.JOB_FAILED),
        (ended(verdict="fail"), Exit.GATE_REFUSED),
        (ended(verdict="inconclusive"), Exit.GATE_REFUSED),
    ],
)
@pytest.mark.parametrize("command", [("trigger", "--wait"), ("status", "-w"), ("jobs", "resume", "11", "-w")])
def test_the_exit_code_tells_the_end(
    service: MadeUpService, refit: Refit, command: tuple[str, ...], end: dict[str, object], code: Exit
) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on("POST /training/jobs/11/resume", job())
    service.on(STATUS, news(job()), news(end, '"2"'))
    result = refit(*command, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout) == end


def test_a_gate_that_refused_shows_its_table_all_the_same(service: MadeUpService, refit: Refit) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on(STATUS, news(ended(verdict="fail")))
    result = refit("trigger", "--wait")
    row = " ".join(result.stdout.splitlines()[1].split())
    assert row == "f1 0.9100 0.9000 +0.0100 >= incumbent - 0.01 fail"
    assert "The gate's verdict on version 7 is fail." in result.stderr
    assert "800 holdout rows against version 6" in result.stderr


def test_a_failed_job_is_told_with_its_remedy(service: MadeUpService, refit: Refit) -> None:
    service.on(STATUS, news(FAILED))
    stderr = refit("status", "-w", "--job", "12").stderr
    assert "data_imbalance" in stderr
    assert "Use SMOTE." in stderr
    assert "refit jobs logs 12" in stderr


def test_waiting_is_a_long_poll_that_names_what_it_has_seen(service: MadeUpService, refit: Refit) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on(STATUS, news(job(), '"1"'), httpx.Response(304), news(ended(), '"2"'))
    refit("trigger", "--wait")
    first, second, third = service.asked[1:]
    assert first.url.params["wait"] == "0.0"
    assert "If-None-Match" not in first.headers
    assert second.url.params["wait"] == third.url.params["wait"] == "30.0"
    assert second.headers["If-None-Match"] == third.headers["If-None-Match"] == '"1"'


def test_a_service_that_restarts_meanwhile_is_asked_again(service: MadeUpService, refit: Refit) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on(STATUS, news(job()), httpx.ConnectError("refused"), problem(503, "loading"), news(ended()))
    assert refit("trigger", "--wait").exit_code == 0


def test_time_that_is_up_leaves_the_job_running(service: MadeUpService, refit: Refit) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on(STATUS, news(job()))
    result = refit("trigger", "--wait", "--timeout", "0.001", "--json")
    assert result.exit_code == Exit.TIMED_OUT
    assert json.loads(result.stdout)["status"] == "running"
    assert "refit status -w --job 12" in result.stderr


@pytest.mark.parametrize("command", [("trigger", "--wait"), ("status", "-w"), ("jobs", "cancel", "12")])
def test_ctrl_c_detaches_and_says_how_to_come_back(
    service: MadeUpService, refit: Refit, command: tuple[str, ...]
) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on("POST /training/jobs/12/cancel", job(cancelling=True))
    service.on(STATUS, news(job()), news(job()), KeyboardInterrupt())
    result = refit(*command)
    assert result.exit_code == Exit.DETACHED
    assert "detached; job 12 runs on. Come back: refit status -w --job 12; stop it: refit jobs cancel 12" in (
        result.stderr
    )
    assert all(request.method == "GET" for request in service.asked[1:])


def test_a_dry_run_waits_for_its_plan(service: MadeUpService, refit: Refit) -> None:
    service.on(TRIGGER, ACCEPTED)
    service.on(STATUS, news(ended(verdict=None, dry_run=True, plan={"fits": 26, "estimated_seconds": 6})))
    result = refit("trigger", "--dry-run")
    assert result.exit_code == 0
    assert service.body(0)["dry_run"] is True
    assert result.stdout.split() == ["fits", "26", "estimated_seconds", "6"]


def test_progress_is_told_in_plain_lines_where_there_is_no_terminal(service: MadeUpService, refit: Refit) -> None:
    service.on(TRIGGER, ACCEPTED)
    search = job(progress_note="trial 2/5", eta_seconds=30.0)
    later = job(progress=0.5, progress_note="trial 3/5")
    service.on(STATUS, news(search), news(later), news(ended()))
    stderr = refit("trigger", "--wait").stderr
    assert "job 12: search  40 %  trial 2/5  about 30 s left" in stderr
    assert "trial 3/5" not in stderr
    assert "\x1b" not in stderr


def test_cancel_returns_when_the_job_is_cancelled(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/jobs/12/cancel", job(cancelling=True))
    service.on(STATUS, news(job(cancelling=True)), news(ended("cancelled")))
    result = refit("jobs", "cancel", "12", "--reason", "wrong data")
    assert (result.exit_code, result.stdout) == (0, "cancelled\n")
    assert service.body(0) == {"reason": "wrong data"}


def test_cancel_that_came_too_late_is_a_conflict(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/jobs/12/cancel", job(cancelling=True))
    service.on(STATUS, news(ended()))
    assert refit("jobs", "cancel", "12").exit_code == Exit.CONFLICT


def test_cancel_need_not_wait(service: MadeUpService, refit: Refit) -> None:
    service.on("POST /training/jobs/12/cancel", job(cancelling=True))
    assert refit("jobs", "cancel", "12", "--no-wait").stdout == "cancelling\n"
    assert len(service.asked) == 1
