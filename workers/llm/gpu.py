"""The GPU while a language model is trained on it: what is free, who holds it, making room, and giving it back."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import httpx

from workers import gpus, neighbours
from workers.borrowing import Borrower, borrowing
from workers.gpus import Device
from workers.llm.params import Gpu
from workers.neighbours import CommandFailed
from workers.pipeline import PipelineError, Run

SETTLE_SECONDS = 15.0  # a process that has ended gives its memory back a little later


@contextmanager
def borrowed(run: Run, *, trains: bool) -> Iterator[None]:
    """The GPU to itself, as far as the definition says how; given back also when the body fails or is cancelled.

    Without a GPU, or where nothing is trained, it does nothing. Raises PipelineError `gpu_busy` where the memory that
    is needed is still not free, naming the shortfall and the holders, and `stop_command_failed`.
    """
    devices = gpus.look() if trains else None
    if devices is None:
        if trains:
            run.log("no GPU here: trains on the CPU")
        yield
        return
    needed = _needed_mib(run)
    with _ended_by_an_exception(), borrowing(run.shared, run.log) as borrower:
        run.log(f"{needed} MiB are needed; before making room: {_told(devices)}")
        _make_room(run, run.params.gpu, borrower)
        _require(run, needed)
        yield


def _make_room(run: Run, wanted: Gpu, borrower: Borrower) -> None:
    url, models = wanted.unload_ollama, _loaded(run, wanted.unload_ollama)
    # Said before it is done: a kill in between gives back what was never taken, which harms nobody.
    borrower.takes(wanted.start, url, models)
    if url and models:
        run.log(f"unloads from Ollama: {', '.join(model['model'] for model in models)}")
        _unload(run, url, models)
    for command in wanted.stop:
        try:
            neighbours.command(command, run.log)
        except CommandFailed as error:
            raise PipelineError(
                "stop_command_failed",
                f"The GPU was not freed: {error}.",
                "Run gpu.stop by hand as the worker's user, mend it, then resume; what was stopped is started again.",
            ) from None


def _loaded(run: Run, url: str | None) -> list[neighbours.Loaded]:
    """An Ollama that does not answer holds nothing that could be asked back."""
    if url is None:
        return []
    try:
        return neighbours.loaded(url)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        run.log(f"no Ollama answers at {url} ({type(error).__name__}): nothing is unloaded")
        return []


def _unload(run: Run, url: str, models: Sequence[neighbours.Loaded]) -> None:
    """What does not go shows in the memory that is missing."""
    try:
        gone = neighbours.unload(url, models)
    except httpx.HTTPError as error:
        run.log(f"Ollama did not unload ({type(error).__name__})")
        return
    if not gone:
        run.log(f"Ollama still has some of them after {neighbours.LEAVE_SECONDS:g} s")


def _needed_mib(run: Run) -> int:
    """Free memory on each device that is trained on: as it is said, else the plan's estimate. Raises PipelineError.

    A GPU is taken to have bf16: to ask it would already take memory on it.
    """
    if run.params.gpu.needs_mib is not None:
        return int(run.params.gpu.needs_mib)
    from workers.llm import bases, memory_estimate, plan
    from workers.llm.effective import effective

    params = effective(run.params, run.memory_scale)
    shape = plan.architecture(params, bases.resolve(params, run.shared, weights=False))
    bf16 = params.precision != "fp32"
    need = memory_estimate.largest(params, shape, plan.trained(run, params), on_gpu=True, bf16=bf16)
    return need.mib if need else 0


def _require(run: Run, needed: int) -> None:
    """Raises PipelineError `gpu_busy`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while short := _short(devices := _used(run), needed):
        if time.monotonic() > deadline:
            raise _busy(short, needed)
        time.sleep(0.5)
    run.log(f"room for {needed} MiB: {_told(devices)}")


def _used(run: Run) -> list[Device]:
    """Those that are trained on: one a process."""
    return (gpus.look() or [])[: run.params.processes]


def _short(devices: Sequence[Device], needed: int) -> list[Device]:
    return [device for device in devices if device.free_mib < needed]


def _busy(short: Sequence[Device], needed: int) -> PipelineError:
    missing = max(needed - device.free_mib for device in short)
    return PipelineError(
        "gpu_busy",
        f"{needed} MiB of GPU memory are needed, and {missing} MiB are missing: {_told(short)}.",
        "End what holds it or name it in gpu.stop or gpu.unload_ollama, lower batch_size or max_seq_length, correct "
        "gpu.needs_mib, or hide the GPU with CUDA_VISIBLE_DEVICES='' to train on the CPU.",
    )


def _told(devices: Sequence[Device]) -> str:
    return "; ".join(
        f"{device.name} has {device.free_mib} of {device.total_mib} MiB free, {_held(device)}" for device in devices
    )


def _held(device: Device) -> str:
    if not device.holders:
        return "held by no process that can be seen from here"
    held = (
        f"{holder.name} (process {holder.pid}, {'?' if holder.mib is None else holder.mib} MiB)"
        for holder in device.holders
    )
    return f"held by {', '.join(held)}"


@contextmanager
def _ended_by_an_exception() -> Iterator[None]:
    """A cancel's SIGTERM unwinds what is open, and a second one does not end the giving back.

    Only the main thread may say so; elsewhere it stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
