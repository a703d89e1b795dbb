"""The other programs on this machine's GPU: an Ollama's models, and what commands stop and start.

Ollama: GET /api/ps lists what is loaded, with `size_vram` and `expires_at`; POST /api/generate with a model and no
prompt loads it, and with `keep_alive` 0 unloads it (docs/api.md of ollama/ollama).
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypedDict

import httpx

Say = Callable[[str], None]

ANSWER_SECONDS = 10.0
LEAVE_SECONDS = 60.0  # an unloaded model answers what it was asked before it goes
LOAD_SECONDS = 120.0  # of one model, from a cold disk
COMMAND_SECONDS = 120.0
FOREVER_SECONDS = 365 * 86_400.0
TOLD_CHARACTERS = 2_000  # of a command's output


class Loaded(TypedDict):
    """A model that Ollama had on the GPU. `keep_alive` as Ollama takes it: seconds, -1 for ever."""

    model: str
    keep_alive: int


class CommandFailed(Exception):
    """A command that ended otherwise than with 0, could not be started, or took too long; the message says which."""


def loaded(url: str) -> list[Loaded]:
    """The models with memory on the GPU. Raises httpx.HTTPError where no Ollama answers."""
    response = httpx.get(f"{url.rstrip('/')}/api/ps", timeout=ANSWER_SECONDS)
    response.raise_for_status()
    models = response.json()["models"]
    return [{"model": m["name"], "keep_alive": _left(m.get("expires_at"))} for m in models if m.get("size_vram", 1)]


def unload(url: str, models: Sequence[Loaded]) -> bool:
    """Returns once they are gone; False where some still are after a minute. Raises httpx.HTTPError."""
    for model in models:
        _generate(url, {"model": model["model"], "keep_alive": 0}, ANSWER_SECONDS)
    wanted, deadline = {model["model"] for model in models}, time.monotonic() + LEAVE_SECONDS
    while wanted & {model["model"] for model in loaded(url)}:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def load(url: str, model: Loaded) -> None:
    """Returns once it is loaded. Raises httpx.HTTPError, also where it is none that can be loaded so."""
    _generate(url, {"model": model["model"], "keep_alive": model["keep_alive"]}, LOAD_SECONDS)


def command(arguments: Sequence[str], say: Say) -> None:
    """Runs it without a shell, its output to the log. Raises CommandFailed.

    In a session of its own: a service that it starts must outlive the attempt, whose whole group is ended.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise CommandFailed(f"{arguments[0]} could not be started: {error.strerror or error}") from None
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        told = output.read(TOLD_CHARACTERS).decode(errors="replace").strip()
    say(
        f"{' '.join(arguments)}: {'stopped after' if code is None else f'exit code {code}'}{': ' if told else ''}{told}"
    )
    if code is None:
        raise CommandFailed(f"{' '.join(arguments)} did not end within {COMMAND_SECONDS:g} seconds")
    if code:
        raise CommandFailed(f"{' '.join(arguments)} ended with exit code {code}: {told[-300:] or 'it said nothing'}")


def _generate(url: str, body: dict[str, object], seconds: float) -> None:
    httpx.post(f"{url.rstrip('/')}/api/generate", json=body, timeout=seconds).raise_for_status()


def _left(expires_at: str | None) -> int:
    """Seconds that it would have stayed, at least one. `keep_alive: -1` shows as some century to come."""
    if expires_at is None:
        return 300
    try:
        seconds = (datetime.fromisoformat(expires_at) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 300
    return -1 if seconds > FOREVER_SECONDS else max(1, int(seconds))
