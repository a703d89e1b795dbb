"""Canary and shadow: who is answered by whom, and what the report says of both."""

import json
import time
from collections.abc import Iterator

from app.cli.client import Json
from benchmarks.decisions import Figure
from benchmarks.decisions.live.traffic import Asked, Model, refit
from benchmarks.service import until

KEYS, ROWS, SHARE = 150, 5, 0.3
MINUTES = 0.2
# Replicas follow a trial within a second; four standard deviations of KEYS draws.
FOLLOWED_SECONDS = 1.2
SPREAD = 4 * (SHARE * (1 - SHARE) / KEYS) ** 0.5


def canary(model: Model) -> Iterator[Figure]:
    slots = model.service.slots(model.name)
    share = ("--share", str(SHARE), "--minutes", str(MINUTES))
    refit(model.service, "canary", "start", model.name, *share, "--reason", "see")
    time.sleep(FOLLOWED_SECONDS)
    keys = [f"caller-{number}" for number in range(KEYS)]
    first, again = (_by_key(model, keys) for _ in range(2))
    moved = sum(first[key].version != again[key].version for key in keys)
    standby = [key for key in keys if first[key].version == slots["standby"]]
    got = len(standby) / KEYS
    sentence = f"canary: {got:.0%} of {KEYS} keys by version {slots['standby']} for a share of {SHARE:.0%}"
    yield Figure(f"{sentence}, {moved} moved", abs(got - SHARE) <= SPREAD and not moved)
    model.tell(*first.values(), *again.values())
    yield from _ended(model, "canary", {"active": 2 * (KEYS - len(standby)), "standby": 2 * len(standby)})
    after = {each.version for each in _by_key(model, standby[:20]).values()}
    told = ", ".join(map(str, sorted(after)))
    yield Figure(f"after it version {told} answers those keys", after == {slots["active"]})


def shadow(model: Model) -> Iterator[Figure]:
    slots = model.service.slots(model.name)
    refit(model.service, "shadow", "start", model.name, "--minutes", str(MINUTES), "--reason", "see")
    time.sleep(FOLLOWED_SECONDS)
    asked = [model.ask(ROWS) for _ in range(KEYS)]
    by = {each.version for each in asked}
    model.tell(*asked)
    yield from _ended(model, "shadow", {})
    shown = _shown(model, "shadow")
    compared, arms = shown["compared"], (shown["active"]["accuracy"], shown["standby"]["accuracy"])
    agreed = compared["agreement"]
    told = f"shadow: {compared['rows']} rows compared, {agreed['value']:.1%} alike ({agreed['low']:.1%}–"
    every = compared["rows"] + ROWS * compared["dropped"]
    yield Figure(f"{told}{agreed['high']:.1%})", by == {slots["active"]} and every == KEYS * ROWS)
    right = " and ".join(f"{arm['value']:.1%} of {arm['n']} rows right" for arm in arms)
    yield Figure(f"by labels sent for active's answers: {right}", {arm["n"] for arm in arms} == {compared["rows"]})


def _by_key(model: Model, keys: list[str]) -> dict[str, Asked]:
    return {key: model.ask(ROWS, key=key) for key in keys}


def _ended(model: Model, kind: str, requests: Json) -> Iterator[Figure]:
    """`requests` by arm are what the report must have counted at least: its active arm has whole minutes."""

    def over() -> Json | None:
        shown = _shown(model, kind)
        counted = all(shown[arm]["requests"] >= n for arm, n in requests.items())
        return shown if shown["trial"]["state"] == "ended" and counted else None

    shown = until(over, f"the {kind} to end and to be counted", seconds=90, every=0.5)
    why = shown["trial"]["why"]
    if kind == "shadow":
        yield Figure(f"it ends: {why}", why == "its time is over")
        return
    arms = {arm: shown[arm]["f1"] for arm in ("active", "standby")}
    told = ", ".join(f"{arm} F1 {f1['value']:.3f} ({f1['low']:.3f}–{f1['high']:.3f})" for arm, f1 in arms.items())
    sure = all(f1["low"] <= f1["value"] <= f1["high"] for f1 in (*arms.values(), shown["differences"]["f1"]))
    right = sure and shown["standby"]["requests"] == requests["standby"]
    yield Figure(f"it ends: {why}; {told}", right and why == "its time is over")


def _shown(model: Model, kind: str) -> Json:
    shown: Json = json.loads(refit(model.service, kind, "show", model.name, "--json"))
    return shown
