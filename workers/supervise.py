"""Runs one attempt in a process group of its own: lease, progress, cancel, exit → outcome.

Alive and advancing are two clocks: a lost lease stops the group at once and writes nothing, a stage that has not
advanced for too long is stopped as `stalled`. Whatever happens, the group is gone before the job's row says so.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.registry import artifacts
from app.registry.promotion import promote
from app.settings import Settings
from app.training import state
from app.training.state import Claim
from app.training.tables import TrainingJob
from workers.journal import Journal
from workers.pipeline import find

log = logging.getLogger(__name__)

# The holder gives up this share of the lease before the database does.
MARGIN = 0.2

# What an attempt found of its candidate, as it stands with the job.
FOUND = ("metrics", "comparison", "gate", "evaluation")

Ending = Literal["exited", "cancelled", "drained", "stalled", "lost"]


class Attempt:
    """One claimed job, from the spawn of its process to the last write."""

    def __init__(
        self,
        settings: Settings,
        sessions: async_sessionmaker[AsyncSession],
        job: TrainingJob,
        draining: asyncio.Event,
        asked_at: float,
    ) -> None:
        """`asked_at`: monotonic seconds before the claim was sent. Counted from its answer, a worker that slept in
        between would train beside whoever was given the job meanwhile."""
        assert job.owner is not None
        self._settings = settings
        self._sessions = sessions
        self._job = job
        self._draining = draining
        self._claim = Claim(job.id, job.model, job.owner, job.fence, job.attempt)
        self._journal = Journal(sessions, self._claim)
        self._staging = artifacts.staging_of(settings.store, job.id, job.fence)
        self._deadline = asked_at + settings.job_lease_seconds * (1 - MARGIN)

    async def run(self) -> None:
        log.info("job %s of %s: attempt %s", self._job.id, self._job.model, self._claim.attempt)
        news, said = os.pipe()
        process = await self._spawn(said)
        os.close(said)
        listening = [
            asyncio.create_task(self._journal.read_news(news)),
            asyncio.create_task(self._journal.read_log(process.stdout)),
            asyncio.create_task(self._journal.keep_writing()),
        ]
        ending = await self._watch(process)
        await self._end_group(process)
        await asyncio.gather(*listening[:2])
        listening[2].cancel()
        await self._conclude(ending, process.returncode)
        shutil.rmtree(self._staging.parent, ignore_errors=True)
        log.info("job %s of %s: attempt %s %s", self._job.id, self._job.model, self._claim.attempt, ending)

    async def _spawn(self, said: int) -> asyncio.subprocess.Process:
        job = self._job
        # Its share of the cores; waiting threads sleep, because spinning ones made training 17 times slower (measured).
        threads = max(1, (os.cpu_count() or 1) // self._settings.concurrency)
        defaults = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.run",
            *(str(job.id), str(self._claim.fence), str(said), str(self._deadline)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(said,),
            env=defaults | os.environ,
        )

    async def _watch(self, process: asyncio.subprocess.Process) -> Ending:
        """Until the process has ended or must. Renews the lease every fifth of it, and at least once a second."""
        exited = asyncio.create_task(process.wait())
        draining = asyncio.create_task(self._draining.wait())
        every = min(1.0, self._settings.job_lease_seconds / 5)
        try:
            while True:
                done, _ = await asyncio.wait({exited, draining}, timeout=every, return_when="FIRST_COMPLETED")
                if exited in done:
                    return "exited"
                if draining in done:
                    return "drained"
                must_end = await self._renew(process)
                if must_end is not None:
                    return must_end
        finally:
            exited.cancel()
            draining.cancel()

    async def _renew(self, process: asyncio.subprocess.Process) -> Ending | None:
        asked_at = time.monotonic()
        try:
            async with self._sessions() as session, session.begin():
                beat = await state.renew(session, self._claim, self._settings.job_lease_seconds)
        except (SQLAlchemyError, OSError) as error:
            log.warning("job %s: could not renew the lease (%s)", self._job.id, error)
            return None if time.monotonic() < self._deadline else "lost"
        if beat is None:
            return "lost"
        if beat.cancel_requested:
            return "cancelled"
        if beat.seconds_without_progress > self._settings.job_stall_seconds:
            return "stalled"
        self._deadline = asked_at + self._settings.job_lease_seconds * (1 - MARGIN)
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(b"%f\n" % self._deadline)
        return None

    async def _end_group(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, then SIGKILL to the whole group, and returns only when nothing of it is left."""
        deadline = time.monotonic() + self._settings.cancel_grace_seconds
        _signal_group(process.pid, signal.SIGTERM)
        while _signal_group(process.pid, 0):
            await asyncio.sleep(0.02)
            if time.monotonic() >= deadline:
                _signal_group(process.pid, signal.SIGKILL)
        await process.wait()

    async def _conclude(self, ending: Ending, returncode: int | None) -> None:
        """The last write. If Postgres is away it is tried until the lease has run out; then the sweep decides."""
        await self._journal.write()
        while ending != "lost":
            try:
                async with self._sessions() as session, session.begin():
                    await self._write(session, ending, returncode)
            except (SQLAlchemyError, OSError) as error:
                log.warning("job %s: could not write its end (%s)", self._job.id, error)
                if time.monotonic() > self._deadline:
                    return
                await asyncio.sleep(0.5)
            else:
                return

    async def _write(self, session: AsyncSession, ending: Ending, returncode: int | None) -> None:
        outcome = self._journal.outcome
        if ending == "cancelled":
            await state.confirm_cancelled(session, self._claim)
        elif ending == "drained":
            await state.release(session, self._claim, reason="its worker was told to stop", counts=False)
        elif ending == "stalled":
            await state.fail(session, self._claim, _stalled(self._settings.job_stall_seconds))
        elif outcome is None:
            reason = f"its process ended with {_told(returncode)} and no outcome"
            await state.release(session, self._claim, reason=reason, counts=True)
        else:
            # A copy: what Postgres did not take is written again.
            await self._write_outcome(session, dict(outcome))

    async def _write_outcome(self, session: AsyncSession, outcome: dict[str, Any]) -> None:
        kind = outcome.pop("outcome")
        if kind == "candidate":
            figures = {name: outcome[name] for name in (*FOUND, "base") if name in outcome}
            if await state.complete(session, self._claim, outcome["version"], **figures) is not None:
                await promote(session, self._job.model)
                if not find(self._job.model_type).keeps_checkpoints:
                    shutil.rmtree(self._checkpoints(), ignore_errors=True)
        elif kind in ("plan", "data", "evaluation"):
            figures = {name: outcome[name] for name in FOUND if name in outcome}
            await state.complete_without_version(session, self._claim, outcome.get("plan"), **figures)
        elif outcome["code"] == "out_of_memory" and self._job.memory_scale == 1.0:
            reason = "out of memory: once more with half the batch and double the accumulation"
            await state.release(session, self._claim, reason=reason, counts=True, memory_scale=0.5)
        else:
            await state.fail(session, self._claim, outcome)

    def _checkpoints(self) -> Path:
        return artifacts.checkpoints_of(self._settings.store, self._job.checkpoint_of or self._job.id)


def _signal_group(group: int, number: int) -> bool:
    """False once nothing of the group is left; signal 0 only asks."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _stalled(limit: float) -> dict[str, str]:
    return {
        "code": "stalled",
        "message": f"The attempt lived but did not advance for {limit:g} seconds.",
        "remedy": "Read its log; raise REFIT_JOB_STALL_SECONDS where a stage really takes longer between its reports.",
    }


def _told(returncode: int | None) -> str:
    if returncode is None or returncode >= 0:
        return f"exit code {returncode}"
    return f"signal {signal.Signals(-returncode).name}"
