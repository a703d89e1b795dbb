"""A training in this process, or in several under `accelerate launch`: the same `fit`, told the same Spec.

`python -m workers.llm.launch FOLDER` is one of several. `FOLDER/spec.json` says what is to be done; JSON lines come
back through the pipe `news`, progress from rank 0 alone. The launcher puts its children into sessions of their own, out
of reach of a signal to the attempt's group: so each holds the pipe `lifeline`, and ends when the attempt is gone.
"""

import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from workers.llm.params import LlmParams
from workers.llm.spec import Spec
from workers.llm.training import quiet, world_size
from workers.ml import memory
from workers.pipeline import OutOfMemory, PipelineError, Run

SETTLE_SECONDS = 10.0  # for the launcher to end once an error was told


def train(run: Run, module: str, spec: Spec) -> dict[str, Any]:
    """Calls `module.fit(spec, report) -> figures`, here or in each process; rank 0's figures are the answer.

    In several where `processes` says so, or, where it says nothing, one a GPU. Raises PipelineError as `fit` does,
    whichever process it was in, and `launch_failed` where one died without a word.
    """
    gpus, processes = _gpus(), processes_of(spec.params)
    if processes == 1 and gpus <= 1:
        with memory.named_when_exhausted():
            figures: dict[str, Any] = importlib.import_module(module).fit(spec, run.report)
            return figures
    if 0 < gpus < processes:
        raise PipelineError(
            "too_many_processes",
            f"training.processes is {processes}, and this worker has {gpus} GPUs: one process needs one of its own.",
            f"Set training.processes to {gpus} or less, or leave it out.",
        )
    run.log(f"trains in {processes} processes on {gpus or 'no'} GPUs, by accelerate")
    return _launched(run, module, spec, processes, gpus)


def processes_of(params: LlmParams) -> int:
    """How many train together: as it is said, else one a GPU."""
    return params.processes or max(1, _gpus())


def _launched(run: Run, module: str, spec: Spec, processes: int, gpus: int) -> dict[str, Any]:
    folder = run.folder / "launch"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_bytes(orjson.dumps({"module": module, "spec": orjson.Fragment(spec.written())}))
    pipes = [_pipe(folder / name) for name in ("news", "lifeline")]
    command = _command(folder, processes)
    child = subprocess.Popen(command, env=_environment(spec, processes, gpus), stdin=subprocess.DEVNULL)
    try:
        return _heard(run, child, pipes[0], folder / "news")
    finally:
        _ended(child)
        for pipe in pipes:
            os.close(pipe)


def _command(folder: Path, processes: int) -> list[str]:
    """--multi_gpu is what starts several processes by torch's launcher, also where the Spec's fit is on a CPU."""
    several = ["--multi_gpu"] if processes > 1 else []
    return [
        sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", str(processes),
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        *several, "-m", "workers.llm.launch", str(folder),
    ]  # fmt: skip


def _environment(spec: Spec, processes: int, gpus: int) -> dict[str, str]:
    """Loopback alone, and the attempt's cores shared out; of several GPUs the first ones, where not all are wanted."""
    own = dict(os.environ) | {
        "OMP_NUM_THREADS": str(max(1, spec.threads // processes)),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        "ACCELERATE_USE_CPU": "false" if gpus else "true",
    }
    if gpus > processes:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        own["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[:processes])
    return own


def _heard(run: Run, child: subprocess.Popen[bytes], news: int, path: Path) -> dict[str, Any]:
    """Passes news on until the launcher ends. The first error that is told is the job's."""
    threading.Thread(target=_tell_end, args=(child, path), daemon=True).start()
    figures: dict[str, Any] | None = None
    error: PipelineError | None = None
    with os.fdopen(os.dup(news), "rb") as lines:
        for line in lines:
            told = orjson.loads(line)
            if told is None:
                break
            kind = told.pop("kind")
            if kind == "error" and error is None:
                error = _error(**told)
                threading.Timer(SETTLE_SECONDS, _ended, (child,)).start()
            elif kind == "figures":
                figures = told["figures"]
            elif kind != "error":
                run.report(kind, **told)
    if error is not None:
        raise error
    if figures is None or child.returncode:
        raise PipelineError(
            "launch_failed",
            f"A training process ended with {child.returncode} and said nothing.",
            "Read its trace: refit jobs logs ID. A process that was killed (-9) ran out of memory: lower batch_size.",
        )
    return figures


def _tell_end(child: subprocess.Popen[bytes], path: Path) -> None:
    child.wait()
    with path.open("wb", buffering=0) as news:
        news.write(b"null\n")


def _ended(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, which the launcher passes on to its processes; what is left then loses its lifeline."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(SETTLE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _error(code: str, message: str, remedy: str) -> PipelineError:
    return OutOfMemory(message) if code == "out_of_memory" else PipelineError(code, message, remedy)


def _pipe(path: Path) -> int:
    """A named pipe that is open at both ends here, so that nobody waits for the other in opening it."""
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def main(folder: Path) -> None:
    """One of the processes."""
    rank = int(os.environ.get("RANK") or 0)
    hold(folder / "lifeline")
    quiet()
    told = orjson.loads((folder / "spec.json").read_bytes())
    spec = Spec.read(orjson.dumps(told["spec"]))
    with (folder / "news").open("wb", buffering=0) as news:

        def tell(kind: str, **figures: Any) -> None:
            if rank == 0 or kind == "error":
                news.write(orjson.dumps({"kind": kind} | figures, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

        failed = _fitted(told["module"], spec, tell)
    _parted()
    sys.stdout.flush()
    os._exit(1 if failed else 0)


def _fitted(module: str, spec: Spec, tell: Callable[..., None]) -> bool:
    try:
        with memory.named_when_exhausted():
            tell("figures", figures=importlib.import_module(module).fit(spec, tell))
    except PipelineError as error:
        tell("error", code=error.code, message=error.message[:1_000], remedy=error.remedy)
        return True
    except Exception:  # noqa: BLE001 - its trace goes to the log; the parent tells that it ended
        traceback.print_exc()
        return True
    return False


def hold(lifeline: Path) -> None:
    """Ends this process when nobody holds the other end any more."""

    def watch() -> None:
        with lifeline.open("rb", buffering=0) as held:
            held.read(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _parted() -> None:
    import torch.distributed as dist

    if world_size() > 1 and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
