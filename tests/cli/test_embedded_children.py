"""The supervisor of `refit up`, with small children in place of servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

# Each child notes what it does in a common file, and starts a grandchild in a session of its own.
CHILD = """
import os, signal, subprocess, sys, time
name, notes, deaf = sys.argv[1], sys.argv[2], sys.argv[3]
def note(what):
    with open(notes, "a") as file: file.write(f"{name} {what}\\n")
def stop(number, frame):
    note(signal.Signals(number).name)
    if signal.Signals(number).name not in deaf: sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
note("ready")
if name == "crasher": os._exit(3)
while True: time.sleep(60)
"""

# `up` in small: python -c UP FOLDER DEAF NAME… starts the children one after the other.
UP = """
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM
from app.cli.embedded import CannotStart
from app.cli.embedded.children import AskedToStop, Children
from app.cli.embedded.folder import hold
from app.cli.embedded.processes import Service
path, child, deaf, *names = sys.argv[1:]
notes = Path(path) / "notes"
def service(name):
    ready = lambda: notes.exists() and f"{name} ready" in notes.read_text()
    command = [sys.executable, "-c", child, name, str(notes), deaf]
    return Service(name, command, ready, stop=(SIGTERM, SIGINT), patience=30.0)
try:
    with hold(Path(path)) as folder, Children(folder) as children:
        for name in names: children.start(service(name))
        (Path(path) / "up").touch()
        children.watch()
except AskedToStop:
    print("asked")
except CannotStart as error:
    sys.exit(error.message)
"""


class Up:
    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        self.folder, self.process = folder, process
        self.left: list[psutil.Process] = []

    @property
    def notes(self) -> list[str]:
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def noted(self, line: str) -> bool:
        return line in self.notes

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        self.left = self.descendants()
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


@contextmanager
def running(folder: Path, *names: str, deaf: str = "", wait: bool = True) -> Iterator[Up]:
    command = [sys.executable, "-c", UP, str(folder), CHILD, deaf, *names]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        up = Up(folder, process)
        try:
            if wait:
                soon((folder / "up").exists)
            yield up
        finally:
            if process.poll() is None:
                up.kill()
            for remains in up.left:
                with suppress(psutil.NoSuchProcess):
                    remains.kill()


def soon(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_ctrl_c_stops_everything_in_reverse_order_and_is_no_failure(tmp_path: Path) -> None:
    with running(tmp_path, "database", "worker", "api") as up:
        descendants = up.descendants()
        up.interrupt()
        assert up.process.wait(20) == 0
    assert up.notes[-3:] == ["api SIGTERM", "worker SIGTERM", "database SIGTERM"]
    assert len(descendants) == 6
    assert gone(descendants)


def test_sigterm_is_heard_like_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path, "api") as up:
        up.process.terminate()
        assert up.process.wait(20) == 0
    assert up.notes[-1] == "api SIGTERM"


def test_a_terminal_does_not_send_ctrl_c_to_the_children(tmp_path: Path) -> None:
    with running(tmp_path, "api") as up:
        [child, _] = up.descendants()
        assert os.getsid(child.pid) == child.pid


def test_the_second_ctrl_c_asks_for_a_quick_stop(tmp_path: Path) -> None:
    with running(tmp_path, "api", deaf="SIGTERM") as up:
        up.interrupt()
        soon(lambda: "api SIGTERM" in up.notes)
        up.interrupt()
        assert up.process.wait(20) == 0
    assert up.notes[-2:] == ["api SIGTERM", "api SIGINT"]


def test_the_third_ctrl_c_kills(tmp_path: Path) -> None:
    with running(tmp_path, "api", deaf="SIGTERM SIGINT") as up:
        descendants = up.descendants()
        for heard in ("api SIGTERM", "api SIGINT"):
            up.interrupt()
            soon(partial(up.noted, heard))
        up.interrupt()
        assert up.process.wait(20) == 0
    assert gone(descendants)


def test_ctrl_c_before_all_is_ready_stops_what_was_started(tmp_path: Path) -> None:
    with running(tmp_path, "database", "crasher", wait=False) as up:
        soon(lambda: "database ready" in up.notes)
        up.interrupt()
        up.process.wait(20)
    assert up.notes[-1] == "database SIGTERM"


def test_a_killed_child_is_started_again_and_its_own_children_are_ended(tmp_path: Path) -> None:
    with running(tmp_path, "database", "api") as up:
        before = up.descendants()
        for child in before:
            if child.ppid() == up.process.pid:
                child.kill()
        soon(lambda: up.notes.count("api ready") == 2 and up.notes.count("database ready") == 2)
        assert gone(before)


def test_a_child_that_crashes_again_and_again_ends_it_all(tmp_path: Path) -> None:
    with running(tmp_path, "database", "crasher", wait=False) as up:
        _, said = up.process.communicate(timeout=30)
    assert up.process.returncode == 1
    assert "crasher crashed 5 times in a minute" in said
    assert up.notes.count("crasher ready") == 5
    assert up.notes[-1] == "database SIGTERM"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells children that their parent died")
def test_children_do_not_outlive_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    with running(tmp_path, "database", "api") as up:
        children = [child for child in up.descendants() if child.ppid() == up.process.pid]
        up.kill()
        soon(lambda: gone(children))


def test_what_a_killed_child_left_behind_is_ended_by_the_next_start(tmp_path: Path) -> None:
    with running(tmp_path, "api") as up:
        up.kill()
        (tmp_path / "up").unlink()
        (tmp_path / "notes").unlink()
        with running(tmp_path, "api"):
            assert gone(up.left)
