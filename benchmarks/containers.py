"""Images as buildah builds them, and containers of them that share this machine's network and are told when to stop."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# Of docker-compose.yml: an attempt saves its checkpoint within it.
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Container:
    """A root file system of an image. `config` is the image's; `options` are those of each `buildah run` in it."""

    id: str
    config: Mapping[str, Any]
    options: tuple[str, ...]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """One more process in it, as the image's user, until it ends."""
        return subprocess.run(self._run(command), capture_output=True, text=True, check=False)

    def told(self, *command: str) -> str:
        """What such a process prints. Raises RuntimeError with its complaint where it fails."""
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"`{' '.join(command)}` in {self.id}: {done.stderr.strip()}")
        return done.stdout.strip()

    def is_healthy(self) -> bool:
        """What the image's HEALTHCHECK says of the service in it."""
        kind, *test = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*test).returncode == 0

    @contextmanager
    def serving(self, log: Path) -> Iterator[None]:
        """Runs the image's own command for as long as the block lasts. Raises TimeoutError when it has to be killed."""
        with log.open("w") as output:
            process = subprocess.Popen(self._run(self.config["Cmd"]), stdout=output, stderr=output)
        try:
            yield
            _stop(process)
        finally:
            process.kill()  # nothing where it has ended; else buildah takes the service along
            process.wait()

    def _run(self, command: Sequence[str]) -> list[str]:
        return ["buildah", "run", "--network=host", *self.options, self.id, "--", *command]


def build(image: str, dockerfile: str, context: Path, options: list[str]) -> None:
    """Builds an image, telling its progress on stderr. In Docker's format: the other one has no health checks."""
    file = str(context / dockerfile)
    command = ["buildah", "build", "--format=docker", *options, f"--file={file}", f"--tag={image}", str(context)]
    subprocess.run(command, stdout=sys.stderr, check=True)


def size_of(image: str) -> str:
    """As buildah tells it, such as `751 MB`."""
    return _buildah("images", "--format={{.Size}}", image)


@contextmanager
def container(image: str, environment: Mapping[str, str], volumes: Mapping[str, Path]) -> Iterator[Container]:
    """A container that is removed when the block ends. `volumes` by mount point, which may end in `:ro`."""
    config = json.loads(_buildah("inspect", "--type=image", image))["Docker"]["config"]
    settings = [f"--env={name}={value}" for name, value in environment.items()]
    mounts = [f"--volume={path}:{point}" for point, path in volumes.items()]
    id = _buildah("from", image)
    try:
        yield Container(id, config, (*settings, *mounts))
    finally:
        _buildah("rm", id)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM for the service itself: buildah would only be killed by it, and its child with it."""
    inside = [one for one in psutil.Process(process.pid).children(recursive=True) if _is_served(one)]
    if not inside:
        raise RuntimeError("the service in the container has ended by itself")
    deadline = time.monotonic() + STOP_SECONDS
    inside[0].terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(deadline - time.monotonic())
    if process.poll() is None:
        raise TimeoutError(f"the service in the container did not stop within {STOP_SECONDS:g} s")


def _is_served(process: psutil.Process) -> bool:
    """Not one of buildah's own processes, which lie between it and the service."""
    return not process.cmdline()[0].startswith("buildah")


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
