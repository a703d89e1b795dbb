"""What a process of the API weighs after it has answered predictions, without torch, and how fast it starts."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil

from app.cli.embedded.folder import LOOPBACK, listen_once
from benchmarks.data import breast_cancer, features
from benchmarks.report import progress, report, size
from benchmarks.service import Service, is_ready, running

# What belongs to the training plane and would make the API heavy.
FOREIGN = ("torch", "transformers", "sklearn", "scipy", "optuna")
STARTS = 5


def main() -> None:
    with report("api-process") as told, running() as service:
        data = breast_cancer(service.inputs / "tumours.csv")
        service.define("tumours", data, prerequisites={"min_new_samples": 0})
        service.train("tumours", params={"optuna_trials": 3})
        service.api.post("/model/reload", {"reason": "to be weighed"})
        [api] = service.processes("app.main")
        before = memory(api.pid)["Pss"]
        count = size(1_000)
        predict(service, features(data), count)
        after = memory(api.pid)
        loaded = libraries(api.pid)
        told.tell(f"{count:,} predictions answered")
        told.tell(
            f"{' and '.join(loaded)} loaded" if loaded else f"torch not loaded, nor {', '.join(FOREIGN[1:])}",
            not loaded,
        )
        told.tell(f"resident {after['Rss']:.0f} MiB, of which its own {after['Pss']:.0f} (before {before:.0f})")
        walls, processors = zip(*(start(api.environ()) for _ in range(STARTS)), strict=True)
        told.tell(f"process start to first 200 of /health/ready {median(walls):.2f} s (median of {STARTS})")
        told.tell(f"of which {median(processors):.2f} s on a processor")


def predict(service: Service, rows: Sequence[dict[str, float]], count: int) -> None:
    """`count` requests of one row, and then one of all rows."""
    for number in range(count):
        answer = service.api.post("/predict/batch", {"instances": [rows[number % len(rows)]]})
        assert len(answer["scores"]) == 1
    answer = service.api.post("/predict/batch", {"instances": list(rows)})
    assert len(answer["scores"]) == len(rows)


def memory(pid: int) -> dict[str, float]:
    """MiB of a process: Rss is what it has mapped in, Pss counts shared pages by their share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.findall(r"^(Rss|Pss):\s+(\d+) kB", rollup, re.MULTILINE)
    return {name: int(kibibytes) / 1024 for name, kibibytes in found}


def libraries(pid: int) -> list[str]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return [name for name in FOREIGN if f"/{name}/" in maps]


def start(environment: dict[str, str]) -> tuple[float, float]:
    """Seconds until one more replica of the same service is ready, by the clock and on a processor; it leaves again."""
    port = listen_once(LOOPBACK, 0)
    # It listens for itself: the socket that `refit up` passes on to its replicas is not passed on to this one.
    own = {name: value for name, value in environment.items() if name != "REFIT_LISTEN_FD"}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "app.main"],
        env=own | {"REFIT_PORT": str(port)},
        cwd=os.sep,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as replica:
        try:
            while not is_ready(f"http://{LOOPBACK}:{port}"):
                if replica.poll() is not None or time.monotonic() - began > 60:
                    raise RuntimeError("a replica of the API does not get ready")
                time.sleep(0.005)
            took, times = time.monotonic() - began, psutil.Process(replica.pid).cpu_times()
        finally:
            replica.terminate()
    progress(f"a replica was ready after {took:.2f} s")
    return took, times.user + times.system


if __name__ == "__main__":
    main()
