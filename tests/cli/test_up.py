"""`refit up` as a user runs it: one command, and nothing is lost or left behind however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from app.cli.embedded import broker, postgres
from app.cli.embedded.folder import hold

REFIT = (sys.executable, "-P", "-m", "app.cli", "up")
LIVE = 'refit_requests_total{method="GET",route="/health/live",status="200"}'
OWN_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("REFIT_")}


@dataclass
class Up:
    process: "subprocess.Popen[str]"
    url: str
    data_dir: Path
    key_file: Path
    pids: dict[str, int]

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key_file.read_text().strip()}"}
        return httpx.get(self.url + path, headers=headers, timeout=10, trust_env=False)

    def is_ready(self) -> bool:
        try:
            return self.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def replicas(self) -> set[int]:
        """The processes that answer requests."""
        return {process.pid for process in self.family() if "app.main" in process.cmdline()}

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def up(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Up]:
    """A `refit up` that is ready. It is killed when the block ends and it still runs."""
    command = (*REFIT, "--data-dir", str(folder), "--port", "0", "--json", *options)
    environment = OWN_ENVIRONMENT | (environment or {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            told: dict[str, Any] = json.loads(process.stdout.readline())
            yield Up(process, told["url"], Path(told["data_dir"]), Path(told["key_file"]), told["pids"])
        finally:
            process.kill()


def refused(*options: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code of a `refit up` that does not start, and what it says."""
    done = subprocess.run(
        [*REFIT, *options],
        env=OWN_ENVIRONMENT | (environment or {}),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def soon(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.05)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_everything_is_there_after_one_command_and_as_it_was_after_ctrl_c_and_after_kill_9(tmp_path: Path) -> None:
    with up(tmp_path) as first:
        assert set(first.pids) == {"postgres", "broker", "worker", "api"}
        assert first.get("/training/jobs").status_code == 200
        assert first.key_file == tmp_path / "admin.key"
        key = first.key_file.read_text()
        assert first.key_file.stat().st_mode & 0o777 == 0o600
        family = first.family()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(60) == 0
        assert gone(family)
    with up(tmp_path) as second:
        assert second.key_file.read_text() == key
        assert second.get("/training/jobs").status_code == 200
        family = second.family()
        second.process.kill()
        if sys.platform == "linux":  # whose kernel tells children that their parent died
            soon(lambda: gone(family))
    with up(tmp_path) as third:
        assert third.key_file.read_text() == key
        assert third.get("/training/jobs").status_code == 200


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up") / "data", "--replicas", "2") as this:
        yield this
        this.process.send_signal(signal.SIGTERM)
        assert this.process.wait(60) == 0


def test_a_second_up_on_the_same_folder_is_refused_and_disturbs_nothing(running: Up) -> None:
    code, said = refused("--data-dir", str(running.data_dir), "--port", "0")
    assert code == 5
    assert f"in use by another `refit up` (process {running.process.pid})" in said
    assert running.is_ready()


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        code, said = refused("--data-dir", str(tmp_path), "--port", str(port))
    assert code == 5
    assert f"Port {port} is taken" in said
    assert "--port" in said
    assert not (tmp_path / "pg").exists()


def test_replicas_share_one_port(running: Up) -> None:
    pids = {running.get("/health").json()["pid"] for _ in range(50)}
    assert pids == {running.pids["api-1"], running.pids["api-2"]}


def test_a_scrape_tells_the_requests_of_all_replicas_whichever_it_meets(running: Up) -> None:
    asked = [running.get("/health/live") for _ in range(20)]
    counted = [line for _ in range(10) for line in running.get("/metrics").text.splitlines() if LIVE in line]
    assert {float(line.split()[-1]) for line in counted} == {float(counted[0].split()[-1])}
    assert float(counted[0].split()[-1]) >= len(asked)


@pytest.mark.parametrize("service", ["postgres", "broker", "worker", "api-1"])
def test_whatever_is_killed_comes_back(running: Up, service: str) -> None:
    name = psutil.Process(running.pids[service]).cmdline()
    known = {child.pid for child in running.family()}
    os.kill(running.pids[service], signal.SIGKILL)

    def its_successor() -> list[int]:
        family = psutil.Process(running.process.pid).children()
        return [child.pid for child in family if child.pid not in known and child.cmdline() == name]

    soon(its_successor)
    running.pids[service] = its_successor()[0]
    soon(lambda: running.is_ready() and running.get("/training/jobs").status_code == 200)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def test_a_replica_that_is_told_to_leave_finishes_what_runs_and_no_request_is_lost(running: Up) -> None:
    stop, told = threading.Event(), []

    def ask() -> None:
        with httpx.Client(base_url=running.url, trust_env=False, timeout=30) as client:
            while not stop.is_set():
                told.append(client.get("/health/live").status_code)

    leaving = running.replicas()
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        for pid in leaving:
            os.kill(pid, signal.SIGTERM)
            soon(partial(is_gone, pid))
            soon(lambda: len(running.replicas()) == 2)
        stop.set()
        for asked in asking:
            asked.result()
    assert set(told) == {200}
    assert not leaving & running.replicas()


def test_servers_of_the_environment_replace_the_embedded_ones(tmp_path: Path) -> None:
    with hold(tmp_path / "servers") as folder, postgres.running(folder) as database, broker.running(folder) as doorbell:
        theirs = {"REFIT_DATABASE_URL": database, "REFIT_BROKER_URL": doorbell}
        with up(tmp_path / "data", environment=theirs) as this:
            assert set(this.pids) == {"worker", "api"}
            assert this.get("/training/jobs").status_code == 200
            assert not (tmp_path / "data/pg").exists()
            this.process.terminate()
            assert this.process.wait(60) == 0


def test_a_database_that_does_not_let_us_in_is_named_without_its_password(tmp_path: Path) -> None:
    wrong = {"REFIT_DATABASE_URL": "postgresql://me:hush@127.0.0.1:1/refit"}
    code, said = refused("--data-dir", str(tmp_path), "--port", "0", environment=wrong)
    assert code == 1
    assert "Postgres does not let us in" in said
    assert "REFIT_DATABASE_URL" in said
    assert "hush" not in said


def test_without_keys_it_does_not_listen_beyond_this_machine(tmp_path: Path) -> None:
    code, said = refused(
        *("--data-dir", str(tmp_path), "--port", "0", "--host", "0.0.0.0"), environment={"REFIT_AUTH": "off"}
    )
    assert code == 1
    assert "REFIT_AUTH=off serves loopback only" in said
