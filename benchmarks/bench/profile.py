"""Where the time of one request goes: py-spy looks at the stack of the API a few hundred times a second, under load."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.bench import bodies
from benchmarks.bench.alone import alone
from benchmarks.bench.load import beside
from benchmarks.bench.load import measure as send
from benchmarks.bench.markdown import table
from benchmarks.bench.setting import Setting
from benchmarks.bench.systems import System, keyed, refit
from benchmarks.peers.model import rows_of
from benchmarks.report import Report

ROWS, CONNECTIONS, SAMPLES = 100, 64, 400
REST = "the rest: routes, request id, heartbeats"
# A sample belongs to the innermost of its frames that is named here; frames read `function (file:line)`.
PARTS = {
    "ONNX Runtime": ("(onnxruntime/",),
    "decode the rows": ("(app/serving/bodies/", "(app/runtimes/rows.py", "(app/runtimes/table.py"),
    "scores and labels as JSON": ("_encode (app/serving/", "Prediction.labels", "decide (app/runtimes/"),
    "authenticate": ("(app/auth/",),
    "read the body": ("read_body (app/http.py", "LimitBody", "RequestResponseCycle.receive"),
    "count": ("(app/metrics.py", "(prometheus_client/"),
    "FastAPI and Starlette around it": ("(fastapi/", "(starlette/"),
    "HTTP server and event loop": ("(uvicorn/", "(asyncio/", "(app/server.py"),
    REST: ("(app/",),
}
# Other threads wait for work, and py-spy takes some of them to be busy.
MAIN_THREAD = "Runner.run (asyncio/"


def measure(setting: Setting, told: Report) -> str:
    """Shares of samples, and what they are of the time between two answers of a process that is never idle."""
    request = keyed(setting.service, bodies.lists(rows_of(setting.service, ROWS)))
    with refit(setting.service, 1) as system:
        load = send(system.url, request, CONNECTIONS, setting.size)
        with beside(system.url, request, CONNECTIONS):
            stacks = _sampled(system, setting)
    parts = _parts(stacks)
    total, each = parts.total(), 1e6 / load.rate
    lines = [[part, f"{count / total:.0%}", f"{count / total * each:,.0f}"] for part, count in parts.most_common()]
    [(largest, count)] = parts.most_common(1)
    told.tell(f"of {each:,.0f} µs a request {count / total:.0%} {largest}", load.wrong == 0)
    heading = f"### Where the time of one request goes ({ROWS} rows as JSON lists, {CONNECTIONS} connections)"
    return f"{heading}\n\n{table(['', 'share', 'µs a request'], [*lines, ['all', '100%', f'{each:,.0f}']])}"


def _sampled(system: System, setting: Setting) -> Sequence[str]:
    """Lines of `frame;frame;… count`. Raises RuntimeError where py-spy may not look into another process."""
    [api] = system.processes()
    found = setting.scratch / "stacks.txt"
    where = ["--pid", str(api.pid), "--format", "raw", "--output", str(found)]
    how = ["--duration", str(2 * setting.size), "--rate", str(SAMPLES)]
    command = [str(Path(sys.executable).with_name("py-spy")), "record", *where, *how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"py-spy: {done.stderr.strip().splitlines()[-1]}")
    return found.read_text().splitlines()


def _parts(stacks: Iterable[str]) -> Counter[str]:
    """Samples by part."""
    parts: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any(MAIN_THREAD in frame for frame in frames):
            parts[_part(frames)] += int(count)
    return parts


def _part(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for part, marks in PARTS.items():
            if any(mark in frame for mark in marks):
                return part
    return REST


if __name__ == "__main__":
    alone("profile", measure)
