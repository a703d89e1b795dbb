"""schemathesis on the OpenAPI document that the service tells, with an admin's key."""

import json
import subprocess
import sys

from benchmarks.report import Report, progress
from benchmarks.service import Service

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
# No `stateful`: following what was answered would find our own key, and revoke it.
PHASES = "examples,coverage,fuzzing"
SECONDS = 3_000
NAMED_FAILURES = 40


def fuzz(told: Report, service: Service, *, examples: int, seed: int) -> None:
    """Bounded by the examples of an operation; the same ones for the same seed."""
    found = service.folder / "schemathesis.json"
    command = [
        *("run", f"{service.url}/openapi.json", "--header", f"Authorization: Bearer {service.key}"),
        *("--checks", ",".join(CHECKS), "--phases", PHASES, "--max-examples", str(examples), "--seed", str(seed)),
        *("--generation-database", "none", "--no-shrink", "--continue-on-failure", "--no-color", "--warnings", "off"),
        *("--report", "json", "--report-json-path", str(found)),
    ]
    # In the service's folder: what schemathesis leaves behind goes with it.
    run = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *command]
    ended = subprocess.run(run, cwd=service.folder, capture_output=True, text=True, check=False, timeout=SECONDS)
    if not found.exists():
        raise RuntimeError(f"schemathesis did not run: {ended.stdout[-500:]} {ended.stderr[-500:]}")
    outcome = json.loads(found.read_bytes())
    failures = [f"{failure['title']}: {name}" for failure in outcome["failures"] for name in failure["operations"]]
    for failure in failures[:NAMED_FAILURES]:
        progress(f"[!] schemathesis: {failure}")
    operations, made = outcome["operations"], outcome["test_cases"]["generated"]
    whole = outcome["complete"] and operations["tested"] == operations["total"] and not outcome["errors"]
    told.tell(
        f"schemathesis: {operations['tested']} of {operations['total']} operations, {made} examples, "
        f"{len(failures)} failures",
        bool(whole) and not failures and ended.returncode == 0,
    )
