"""The doorbell: a Celery message that carries a job id and nothing else. It may be lost, doubled or late.

The row is committed first and the bell rung after; the sweep rings again for what nobody came for, and workers ask
Postgres by themselves every few seconds, so no failure in here is worth failing a request for.
"""

import asyncio
import logging

from celery import Celery
from kombu.exceptions import OperationalError

from app.settings import Settings

log = logging.getLogger(__name__)

TASK = "refit.train"

# Redis keeps messages of higher priority in lists of their own; 0 is taken first.
TRANSPORT = {
    "queue_order_strategy": "priority",
    "priority_steps": [0, 1],
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
}


class Bell:
    """Rings without ever holding up the caller: a frozen broker costs a background thread two seconds, no more."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("refit", broker=settings.broker_url, set_as_current=False)
        # Without these a publish blocks for 20 s or more while the broker is away (measured).
        self._celery.conf.update(
            task_ignore_result=True,
            task_publish_retry=False,
            broker_connection_timeout=1,
            broker_transport_options=TRANSPORT
            | {"max_retries": 0, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        )
        self._ringing: set[asyncio.Task[bool]] = set()

    def ring_soon(self, job_id: int, queue: str, priority: int) -> asyncio.Task[bool]:
        """Rings after the answer has gone out."""
        task = asyncio.create_task(self._ring(job_id, queue, priority))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)
        return task

    async def ring(self, job_id: int, queue: str, priority: int) -> bool:
        """False where the broker is away; the sweep will ring again."""
        # Who is cancelled while it waits leaves a thread that rings on; `drain` waits for that one, too.
        return await asyncio.shield(self.ring_soon(job_id, queue, priority))

    async def drain(self) -> None:
        await asyncio.gather(*self._ringing, return_exceptions=True)
        self._celery.pool.force_close_all()
        self._celery.close()

    async def _ring(self, job_id: int, queue: str, priority: int) -> bool:
        try:
            await asyncio.to_thread(
                self._celery.send_task,
                TASK,
                args=[job_id],
                queue=queue,
                priority=priority,
                ignore_result=True,
            )
        except (OperationalError, OSError) as error:
            log.warning("the broker did not take the bell of job %s (%s); it is rung again", job_id, error)
            return False
        return True
