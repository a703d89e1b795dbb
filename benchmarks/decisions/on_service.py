"""What decides, on a service that runs: two replicas, a worker, Postgres, and people and services who call it."""

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.decisions import Figure
from benchmarks.decisions.live import labels, runbook, trials, watched, webhooks
from benchmarks.decisions.live.traffic import Model
from benchmarks.report import progress, report
from benchmarks.service import Service, running


def show() -> list[Figure]:
    return list(figures())


def figures() -> Iterator[Figure]:
    """In the order in which they are found, so that what was found stands where the rest breaks off."""
    with (
        webhooks.listening(webhooks.EARS) as ears,
        webhooks.listening("127.0.0.1") as inside,
        running("--replicas", "2", settings=webhooks.SETTINGS) as service,
    ):
        secret = webhooks.subscribe(service, ears, inside)
        yield from _decide(service)
        yield from webhooks.heard_of(service, ears, inside, secret)


def _decide(service: Service) -> Iterator[Figure]:
    assistant, fraud = (Model(service, name, np.random.default_rng(7)) for name in ("assistant", "fraud"))
    fraud.define()
    fraud.train()
    fraud.reload()
    yield from labels.arrive(fraud)
    runbook.prepare(assistant)
    yield from runbook.follow(assistant)
    watched.learn_wrong(fraud)
    yield from watched.bad(fraud, "a bad version")
    yield from watched.bad(fraud, "kill -9 of who ticks, Postgres restarted", watched.killed_and_restarted)
    yield from watched.third(fraud)
    yield from watched.for_a_moment(fraud, assistant)
    yield from trials.canary(fraud)
    yield from trials.shadow(fraud)


if __name__ == "__main__":
    with report("on_service") as told:
        began = time.monotonic()
        for figure in figures():
            told.tell(figure.sentence, figure.holds)
        progress(f"{time.monotonic() - began:.0f} s")
