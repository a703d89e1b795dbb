"""Versions that are watched after their swap: bad ones, whatever dies meanwhile; a good one; one that nobody asks."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

from app.cli.client import Json
from benchmarks.decisions import Figure
from benchmarks.decisions.live.faults import kill_who_ticks, restart_postgres
from benchmarks.decisions.live.traffic import OTHER, Asked, Model, refit
from benchmarks.service import until

# A batch of labels that no chance explains, and one that says nothing yet.
ROWS, FEW = 300, 5
MOST_SECONDS = 10.0
SHORT_MINUTES = 0.5
# Of the rows of the version before would come its bytes, which nobody stages.
MORE_ROWS = 4_000
ENDS = ("passed", "rolled_back", "held", "inconclusive")
Between = Callable[[Model], None]


def learn_wrong(model: Model) -> int:
    """A version that passes its gate, by a file that says something else than the traffic does."""
    return model.train(OTHER)


def bad(model: Model, what: str, between: Between | None = None) -> Iterator[Figure]:
    """It is rolled back, once, and nothing of what was told meanwhile is lost or counted twice."""
    before, number, late = _swap(model)
    joined = model.states()["joined"]
    few = model.ask(FEW)
    model.tell(few, late)
    # What a replica answered in the second before kill -9 goes with it, as docs/api.md says.
    until(lambda: model.states()["joined"] == joined + FEW + ROWS, "the answers to be written down")
    if between:
        between(model)
    asked = model.ask(ROWS)
    began = time.monotonic()
    model.tell(asked)
    until(lambda: model.ask(1).version == before, f"version {before} to answer", every=0.02)
    seconds = time.monotonic() - began
    watch = model.watch_of(number, "rolled_back")
    changes = _rollbacks(model, watch["generation"])
    took = _at(changes[0]["at"]) - _at(watch["breached_at"])
    told = f"{what}: version {before} answers {seconds:.1f} s after the labels, {took:.2f} s after the breach"
    yield Figure(f"{told}, {len(changes)} rollback", took <= MOST_SECONDS and len(changes) == 1)
    yield _labels(model, watch, joined, late, [few, asked])
    yield from _record(model, watch)


def killed_and_restarted(model: Model) -> None:
    kill_who_ticks(model.service)
    restart_postgres(model.service)


def third(model: Model) -> Iterator[Figure]:
    """After two rollbacks in an hour a third one is for people."""
    _, number, _ = _swap(model)
    model.tell(model.ask(ROWS))
    watch = model.watch_of(number, "held")
    slots, incidents = model.service.slots(model.name), _incidents(model, watch)
    right = (slots["active"], bool(slots["hold_reason"])) == (number, True)
    grave = [incident["severity"] for incident in incidents] == ["P1"]
    yield Figure(f"the third within an hour: {watch['state']}, and a P1", right and grave)
    model.service.api.post("/model/rollback", {"model": model.name, "reason": "what the watch found"})
    model.service.api.post(f"/incidents/{incidents[0]['id']}/close", {"note": "rolled back by hand"})
    _lift_hold(model)


def for_a_moment(good: Model, quiet: Model) -> Iterator[Figure]:
    """Two good versions with half a minute each: the first is asked and labelled, the second nobody asks."""
    good.define(watch={"minutes": SHORT_MINUTES})
    quiet.define(watch={"minutes": SHORT_MINUTES})
    number, silent = good.train(rows=MORE_ROWS), quiet.reload()["active"]
    good.reload()
    good.tell(*[good.ask(50) for _ in range(30)])
    passed = good.watch_of(number, *ENDS)
    seen = passed["numbers"]["checks"]["f1:label"]
    told = f"a good one: {passed['state']}, F1 {seen['value']:.3f} of {seen['n']} labels"
    yield Figure(told, passed["state"] == "passed" and good.service.slots(good.name)["active"] == number)
    ended = quiet.watch_of(silent, *ENDS)
    events = quiet.service.api.pages("/events", 10, model=quiet.name, kind="watch.inconclusive")
    told = f"one that nobody asks: {ended['state']}, {len(events)} event"
    yield Figure(told, ended["state"] == "inconclusive" and [e["reason"] for e in events] == [ended["reason"]])


def _swap(model: Model) -> tuple[int, int, Asked]:
    """The version before, the one that is active now, and an answer of the one before that nobody told about yet."""
    _lift_hold(model)
    slots = model.service.slots(model.name)
    _wait_for_another_minute(model)
    late = model.ask(ROWS)
    # A watch may have rolled it back before: nobody brings that back by mistake.
    swapped = model.reload(force=True, reason="once more, to see it fail")
    model.watch_of(swapped["active"], "watching")
    return slots["active"], swapped["active"], late


def _wait_for_another_minute(model: Model) -> None:
    """A version that comes back within its minute is judged from the next minute on, and its labels with it."""
    before = model.watch().get("ended_at")
    if before is not None:
        next_minute = _at(before) // 60 * 60 + 60
        until(lambda: time.time() > next_minute, "another minute", seconds=61)


def _lift_hold(model: Model) -> None:
    model.service.api.post("/model/unhold", {"model": model.name, "reason": "somebody thinks better of it"})


def _labels(model: Model, watch: Json, joined: int, late: Asked, asked: list[Asked]) -> Figure:
    """What was told late of the version before is not held against this one."""
    told = sum(len(each.truth) for each in asked)
    rows = told + len(late.truth)
    until(lambda: model.states()["joined"] >= joined + rows, "every label to be counted")
    counted, held = model.states()["joined"] - joined, watch["numbers"]["checks"]["f1:label"]["n"]
    return Figure(f"{counted} of {rows} labels counted, {held} of {told} against it", (counted, held) == (rows, told))


def _record(model: Model, watch: Json) -> Iterator[Figure]:
    slots, incidents = model.service.slots(model.name), _incidents(model, watch)
    shown = refit(model.service, "watches", "show", str(watch["id"]))
    yield Figure(
        f"held, {len(incidents)} incident; the watch says: {str(watch['reason']).rstrip('.')}",
        watch["reason"] in str(slots["hold_reason"])
        and [watch["reason"] in incident["title"] for incident in incidents] == [True]
        and watch["reason"].count(".") >= 1
        and watch["reason"] in shown,
    )


def _rollbacks(model: Model, generation: int) -> list[Json]:
    changes = model.service.api.pages("/model/history", 100, model=model.name)
    return [each for each in changes if each["action"] == "rolled_back" and each["generation"] > generation]


def _incidents(model: Model, watch: Json) -> list[Json]:
    found = model.service.api.pages("/incidents", 100, model=model.name, state="all")
    return [each for each in found if str(watch["reason"]) in each["title"]]


def _at(told: str) -> float:
    return datetime.fromisoformat(told).timestamp()
