"""`refit doctor` names what is wrong and the way out, and fails only where something does not work."""

import importlib.util
import json
from typing import Any

import httpx
import pytest

from tests.cli.made_up import MadeUpService, Refit, job, page, problem


@pytest.fixture
def healthy(service: MadeUpService) -> MadeUpService:
    service.on("GET /health", {"version": "0.1.0", "postgres": "ok"})
    service.on("GET /health/ready", {"status": "ready"})
    service.on("GET /models", [])
    service.on("GET /keys", [])
    service.on("GET /training/types", [{"name": "classifier"}])
    service.on("GET /training/jobs", page())
    return service


def finding(refit: Refit, about: str, exit_code: int) -> Any:
    result = refit("doctor", "--json")
    assert result.exit_code == exit_code
    return next(found for found in json.loads(result.stdout) if found["about"] == about)


def test_all_is_well(healthy: MadeUpService, refit: Refit) -> None:
    result = refit("doctor")
    assert result.exit_code == 0
    assert "fail" not in result.stdout


def test_a_service_that_is_away_fails(service: MadeUpService, refit: Refit) -> None:
    service.on("GET /health", httpx.ConnectError("refused"))
    found = finding(refit, "service", 1)
    assert found["level"] == "fail"
    assert "refit up" in found["remedy"]


def test_a_replica_that_is_not_ready_fails(healthy: MadeUpService, refit: Refit) -> None:
    healthy.on("GET /health/ready", problem(503, "no_lease", "No lease."))
    assert finding(refit, "ready", 1)["found"] == "No lease."


def test_a_key_that_is_not_known_fails(healthy: MadeUpService, refit: Refit) -> None:
    healthy.on("GET /models", problem(401, "unauthenticated", "Not known."))
    assert finding(refit, "key", 1)["level"] == "fail"


def test_a_key_that_is_no_admin_is_well(healthy: MadeUpService, refit: Refit) -> None:
    healthy.on("GET /keys", problem(403, "forbidden", "This needs the role admin."))
    assert "not admin" in finding(refit, "role", 0)["found"]


def test_no_worker_fails(healthy: MadeUpService, refit: Refit) -> None:
    healthy.on("GET /training/types", [])
    assert "worker" in finding(refit, "model types", 1)["found"]


def test_a_queue_that_nobody_serves_fails(healthy: MadeUpService, refit: Refit) -> None:
    waits = job(status="queued", queue="gpu", created_at="2026-01-01T00:00:00Z")
    healthy.on("GET /training/jobs", page(), page(waits))
    found = finding(refit, "queues", 1)
    assert found["found"] == "job 12 waits and nothing runs in queue gpu"
    assert "REFIT_QUEUES=gpu" in found["remedy"]


def test_an_extra_that_is_missing_is_a_warning(
    healthy: MadeUpService, refit: Refit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = finding(refit, "extra worker", 0)
    assert found["level"] == "warn"
    assert "refit[worker]" in found["remedy"]
