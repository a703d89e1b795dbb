"""The data folder: one holder, and the same ports and passwords every time."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.embedded import CannotStart, Taken
from app.cli.embedded.folder import LOOPBACK, PORTS, hold, listen_once, write_secret


def test_a_second_holder_is_told_who_has_the_folder(tmp_path: Path) -> None:
    first, second = hold(tmp_path / "data"), hold(tmp_path / "data")
    with first, pytest.raises(Taken, match=f"process {os.getpid()}") as refusal, second:
        pass
    assert refusal.value.status == 409
    assert "--data-dir" in str(refusal.value.remedy)


def test_the_lock_of_a_killed_holder_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from app.cli.embedded.folder import hold\n"
        "with hold(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    with hold(tmp_path):
        pass


def test_ports_and_passwords_are_found_again(tmp_path: Path) -> None:
    with hold(tmp_path) as first:
        ports = first.port("postgres"), first.port("broker")
    with hold(tmp_path) as second:
        assert (second.port("postgres"), second.port("broker")) == ports
        assert second.servers == first.servers


def test_another_port_is_chosen_and_kept_where_somebody_took_ours(tmp_path: Path) -> None:
    with hold(tmp_path) as folder, socket.socket() as somebody:
        taken = folder.port("postgres")
        somebody.bind((LOOPBACK, taken))
        somebody.listen()
        assert folder.port("postgres") != taken
        chosen = folder.servers.postgres_port
    with hold(tmp_path) as again:
        assert again.port("postgres") == chosen
    assert chosen in PORTS


def test_secrets_are_for_us_alone_and_written_whole(tmp_path: Path) -> None:
    with hold(tmp_path / "data") as folder:
        assert (folder.path / "servers.json").stat().st_mode & 0o777 == 0o600
    write_secret(tmp_path / "key", "old")
    write_secret(tmp_path / "key", "new")
    assert (tmp_path / "key").read_text() == "new\n"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".key*"))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="file cannot be used: File exists"), hold(tmp_path / "file"):
        pass


@pytest.mark.parametrize("content", ["", "{", '{"postgres_port": "here"}'])
def test_a_damaged_file_of_passwords_is_not_replaced_by_new_ones(tmp_path: Path, content: str) -> None:
    (tmp_path / "servers.json").write_text(content)
    with pytest.raises(CannotStart, match=r"servers\.json does not hold"), hold(tmp_path):
        pass
    assert (tmp_path / "servers.json").read_text() == content


def test_a_lost_file_of_passwords_is_not_replaced_where_there_is_a_database(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    with pytest.raises(CannotStart, match=r"servers\.json does not hold"), hold(tmp_path):
        pass


def test_port_zero_is_one_that_is_free() -> None:
    port = listen_once(LOOPBACK, 0)
    with socket.socket() as somebody:
        somebody.bind((LOOPBACK, port))
        somebody.listen()
        with pytest.raises(OSError, match="in use"):
            listen_once(LOOPBACK, port)
