"""What is searched: both models whole, their claims, and the variants that must be caught."""

import re
from dataclasses import replace

from benchmarks.verify.spin import MODELS, Search

SMALL, LARGE = 2, 3

# Beside safety: that nothing accepted is lost, with the bells alone and some of them lost.
CLAIMS = ("nothing_is_lost", "every_job_ends", "ended_stays_ended")
OF_A_CLAIM = ("BELLS", "TICKETS=2", "ATTEMPTS=1", "LOSSES=1", "DRAINS=0")
# A variant that only a claim can catch: nothing wrong happens, but something right never does.
CAUGHT_BY = {"M_NO_RING": "nothing_is_lost"}
# Where a variant of `swap` shows itself, where that is not in one call of one operator: two operators, or later slots.
SHOWN_BY = {
    "M_HOLD_FORGOTTEN": ("OPERATORS=1", "CALLS=1", "ROLLED_BACK"),
    "M_IGNORE_REVISION": ("OPERATORS=2", "CALLS=1"),
    "M_ROLLBACK_SWAPS_BACK": ("OPERATORS=1", "CALLS=1", "ROLLED_BACK"),
    "M_ROLLBACK_UNLOCKED": ("OPERATORS=2", "CALLS=1", "RELOADED"),
    "M_STAGE_OVER_WATCH": ("OPERATORS=1", "CALLS=1", "RELOADED"),
    "M_STALE_GATE": ("OPERATORS=1", "CALLS=2", "RELOADED"),
}
ONE_CALL = ("OPERATORS=1", "CALLS=1")
# A fault lies near the beginning: paths that are cut here find it in seconds.
DEPTH = 200


def whole(size: int) -> list[Search]:
    """Everything that must hold, in this size: workers of `job`, replicas of `swap`."""
    claims = [Search("job", OF_A_CLAIM, claim=claim) for claim in CLAIMS]
    one_call = [Search("swap", ("REPLICAS=2", *ONE_CALL, *begun)) for begun in ((), ("RELOADED",), ("ROLLED_BACK",))]
    if size < LARGE:
        return [Search("job", ("WORKERS=2", "TICKETS=3", "LOSSES=0")), *one_call, *claims]
    return [
        _long("job", "WORKERS=2", "TICKETS=3", "LOSSES=1"),
        _long("swap", "REPLICAS=2", "OPERATORS=1", "CALLS=2"),
        replace(_long("job", "WORKERS=3", "TICKETS=4", "ATTEMPTS=3"), bitstate=True),
        replace(_long("swap", "REPLICAS=3", "OPERATORS=2", "CALLS=2"), bitstate=True),
        *one_call,
        *claims,
    ]


def variants(model: str) -> list[str]:
    """The names of what a model can leave out, as its own `#ifdef`s say."""
    return sorted(set(re.findall(r"\bM_[A-Z_]+\b", (MODELS / f"{model}.pml").read_text())))


def broken(model: str, variant: str) -> Search:
    """Where `variant` must be caught."""
    if variant in CAUGHT_BY:
        return Search(model, (*OF_A_CLAIM, variant), claim=CAUGHT_BY[variant])
    if model == "job":
        return Search(model, ("WORKERS=2", "TICKETS=3", "LOSSES=0", variant))
    return Search(model, ("REPLICAS=2", *SHOWN_BY.get(variant, ONE_CALL), variant), depth=DEPTH)


def _long(model: str, *defines: str) -> Search:
    return Search(model, defines, long=True, memory=18_000, seconds=600.0)
