"""Every Celery setting, with the reason for each. `python -m workers.celery_app` starts a worker."""

import sys
import uuid

from celery import Celery, signals
from kombu.entity import Queue

from app.queue import TRANSPORT
from app.settings import settings

config = settings()
queues = [name.strip() for name in config.queues.split(",") if name.strip()]

app = Celery("refit", broker=config.broker_url, include=["workers.tasks"])
app.conf.update(
    # A lost doorbell is rung again by the sweep, while late ack would redeliver a running job (PROTOCOL).
    task_acks_late=False,
    task_ignore_result=True,
    # A busy worker must leave the next bell to an idle one.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    # Postgres decides who runs; the broker may be away for as long as it likes, also when the worker starts.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options=TRANSPORT,
    # Redis's own, but what is no message must not end the worker.
    broker_transport="workers.transport:Transport",
    # Restarting a pool to cancel tasks would lose the bell; leases handle lost connections.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_queues=[Queue(name) for name in queues],  # type: ignore[no-untyped-call]  # kombu ships no types
    task_serializer="json",
    accept_content=["json"],
    # Our own log format and levels; Celery would take over the root logger.
    worker_hijack_root_logger=False,
    enable_utc=True,
)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def set_up_logging(**_: object) -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("celery.redirected").setLevel(logging.ERROR)


def serve() -> None:
    """One process, a thread for each attempt that it may supervise: the attempts themselves are processes of their own.

    Threads, because a prefork child may not have children of its own and SIGTERM reaches it only through tricks.
    """
    if config.broker_url is None or config.database_url is None:
        sys.exit("refit: a worker needs REFIT_DATABASE_URL and REFIT_BROKER_URL; `refit up` sets both.")
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={config.concurrency}",
            f"--queues={','.join(queues)}",
            f"--hostname=refit-{uuid.uuid4().hex[:8]}@%h",
            "--loglevel=INFO",
            # Workers need not know each other: Postgres knows them all.
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


if __name__ == "__main__":
    # Run as a module this file would exist twice, as `__main__` and as itself; the tasks hang on the latter.
    from workers.celery_app import serve as serve_the_app

    serve_the_app()
