"""What the doorbell does. The dispatcher starts with the worker and drains when the worker is told to stop."""

from celery import signals

from app.queue import TASK
from workers.celery_app import app
from workers.dispatch import Dispatcher

dispatcher = Dispatcher()


@app.task(name=TASK)  # type: ignore[untyped-decorator]  # Celery ships no types
def train(job_id: int) -> None:
    """Runs what waits in this worker's queues, best first, until nothing does. `job_id` says whose bell it was."""
    dispatcher.answer(job_id)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def start(**_: object) -> None:
    dispatcher.start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def drain(**_: object) -> None:
    dispatcher.drain_soon()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def stop(**_: object) -> None:
    dispatcher.stop()
