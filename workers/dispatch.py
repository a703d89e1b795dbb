"""The worker's own event loop, in a thread beside Celery's: it claims jobs, supervises attempts, polls and ticks.

Celery's threads only ring; with the broker away the poll finds the jobs all the same.
"""

import asyncio
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.queue import Bell
from app.registry import artifacts
from app.settings import settings
from app.tick import keep_ticking
from app.training import state
from app.training.tables import TrainingJob, Worker
from workers import catalog, gpus
from workers.borrowing import give_back_what_was_left
from workers.supervise import Attempt

log = logging.getLogger(__name__)

WORKER_LEASE_SECONDS = 15.0
# How old the free memory that a worker announces may be.
GPU_SECONDS = 30.0


class Dispatcher:
    """`start` when the worker starts, `answer` for each bell, `drain_soon` when it is told to stop, then `stop`."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()  # a new one at every start: a restarted worker must not keep its orphans alive
        self._settings = settings()
        self._queues = [name.strip() for name in self._settings.queues.split(",") if name.strip()]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dispatch", daemon=True)
        self._draining = asyncio.Event()
        self._capacity = asyncio.Semaphore(self._settings.concurrency)
        self._engine = db.create_engine(self._settings)
        self._sessions = db.create_sessions(self._engine)
        self._gpus: list[gpus.Gpu] | None = None
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._thread.start()
        self._call(self._start())

    def answer(self, job_id: int) -> None:
        """Blocks its Celery thread while it runs jobs, so that bells go to workers that have time."""
        log.debug("the bell of job %s", job_id)
        self._call(self._run_what_waits())

    def drain_soon(self) -> None:
        """Attempts are stopped and go back to the queue, their checkpoints kept; nothing new is claimed."""
        self._loop.call_soon_threadsafe(self._draining.set)

    def stop(self) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            log.info("stopped while answering a bell")

    async def _start(self) -> None:
        bell = Bell(self._settings)
        self._background = [
            asyncio.create_task(work)
            for work in (
                self._keep_registered(),
                self._look_at_gpus(),
                self._give_back(),
                self._poll(),
                keep_ticking(self._sessions, self._settings, bell),
            )
        ]

    async def _stop(self) -> None:
        self._draining.set()
        for _ in range(self._settings.concurrency):  # an attempt that the poll began is still being put back
            await self._capacity.acquire()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        try:
            async with self._sessions() as session, session.begin():
                await session.execute(delete(Worker).where(Worker.id == self.id))
        except (SQLAlchemyError, OSError) as error:
            log.warning("could not sign off (%s); the lease ends by itself", error)
        await self._engine.dispose()

    async def _poll(self) -> None:
        """Jobs start by polling while the broker is away, and when a bell went to a worker that was busy."""
        while True:
            await self._run_what_waits()
            await asyncio.sleep(self._settings.job_poll_seconds)

    async def _run_what_waits(self) -> None:
        while not self._draining.is_set() and not self._capacity.locked():
            async with self._capacity:
                asked_at = time.monotonic()
                job = await self._claim()
                if job is None:
                    return
                await self._run(job, asked_at)

    async def _run(self, job: TrainingJob, asked_at: float) -> None:
        try:
            await Attempt(self._settings, self._sessions, job, self._draining, asked_at).run()
        except Exception:
            # A fault in here must not stop the poll, too; the job's lease runs out and another attempt comes.
            log.exception("job %s: the supervision of its attempt failed", job.id)

    async def _claim(self) -> TrainingJob | None:
        try:
            async with self._sessions() as session, session.begin():
                return await state.claim(session, self.id, self._queues, self._settings.job_lease_seconds)
        except (SQLAlchemyError, OSError) as error:
            log.warning("could not ask for jobs (%s); asking again soon", error)
            return None

    async def _keep_registered(self) -> None:
        """Publishes what this worker trains, and that it lives."""
        published = False
        while True:
            try:
                async with self._sessions() as session, session.begin():
                    if not published:
                        await catalog.publish(session)
                    await self._sign_on(session)
                published = True
            except (SQLAlchemyError, OSError) as error:
                log.warning("could not sign on (%s); trying again", error)
            await asyncio.sleep(WORKER_LEASE_SECONDS / 5)

    async def _look_at_gpus(self) -> None:
        """Beside the lease: a driver that hangs must not cost the worker its life."""
        while True:
            self._gpus = await asyncio.to_thread(gpus.present)
            await asyncio.sleep(GPU_SECONDS)

    async def _give_back(self) -> None:
        """What attempts took on this machine that were killed, also by the end of an earlier worker."""
        shared = artifacts.shared_of(self._settings.store)
        while True:
            try:
                await asyncio.to_thread(give_back_what_was_left, shared, log.warning)
            except (OSError, ValueError) as error:
                log.warning("could not see what is to be given back (%s); trying again", error)
            await asyncio.sleep(GPU_SECONDS)

    async def _sign_on(self, session: AsyncSession) -> None:
        lease = db.clock() + db.seconds(WORKER_LEASE_SECONDS)
        row = {
            "id": self.id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": self._queues,
            "concurrency": self._settings.concurrency,
            "gpus": self._gpus,
            "lease_until": lease,
        }
        upsert = insert(Worker).values(row)
        told = {"lease_until": lease, "gpus": self._gpus}
        await session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_=told))
