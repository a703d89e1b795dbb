"""What a watch looks at: traffic and labels of the new version since its swap, and of the one before until then."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from app.feedback.outcomes import Outcomes, outcomes
from app.monitoring.sequential import deviation
from app.monitoring.standing import Standing
from app.traffic import service as traffic
from app.traffic.service import Traffic
from app.watch.tables import Watch

# So far back the version before is looked at, and with fewer of these it is no measure.
BEFORE = timedelta(days=1)
MIN_LABELS, MIN_REQUESTS, MIN_JUDGED = 200, 1_000, 50


async def seen(session: AsyncSession, watch: Watch, now: datetime) -> dict[str, Any]:
    """Of the version that is watched: what `app.watch.verdict.look` reads."""
    found = await traffic.window(session, watch.model, watch.version, "active", watch.counts_from, now)
    told = await _outcomes(session, watch.model, watch.version, _heads(watch.promised or {}), watch.counts_from, now)
    seconds = (watch.promised or {}).get("latency", {}).get("seconds")
    accepted, rejected = _votes(told)
    return {
        "requests": found.requests,
        "rows": found.rows,
        "errors": found.errors,
        "slow": 0 if seconds is None else slower_than(found, seconds),
        "p99": found.latency_quantile(0.99),
        "scores": {head: counts.tolist() for head, counts in found.scores.items()},
        "standings": {head: standing_of(each) for head, each in told.items()},
        "accepted": accepted,
        "rejected": rejected,
    }


async def before(session: AsyncSession, watch: Watch, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Of the version before, on the day until the swap: what `app.watch.promise.promise` reads."""
    since, until = watch.started_at - BEFORE, watch.started_at
    found = await traffic.window(session, watch.model, watch.previous, "active", since, until)
    heads = profile.get("heads", {})
    told = await _outcomes(session, watch.model, watch.previous, list(heads) or [None], since, until)
    figures = {head: Standing.of(each).numbers() for head, each in told.items() if each.confusion.sum() >= MIN_LABELS}
    accepted, rejected = _votes(told)
    enough = found.requests >= MIN_REQUESTS
    return {
        "f1": {head: each["f1"] for head, each in figures.items()},
        "f1_of": {head: _f1_by_label(told[head]) for head in figures},
        "accuracy": {head: each["accuracy"] for head, each in figures.items()},
        "acceptance": (accepted, accepted + rejected) if accepted + rejected >= MIN_JUDGED else None,
        "errors": (found.errors, found.requests) if enough else None,
        "p99": found.latency_quantile(0.99) if enough else None,
        "shift": _shifts(found, heads) if enough else {},
    }


def standing_of(told: Outcomes) -> list[dict[str, Any]]:
    """As the gate's report has it: {label, actual, given, hits} by label."""
    standing = Standing.of(told)
    every = zip(told.labels, standing.actual, standing.given, standing.hits, strict=True)
    return [{"label": label, "actual": int(a), "given": int(g), "hits": int(h)} for label, a, g, h in every]


def _f1_by_label(told: Outcomes) -> dict[str, float]:
    return {str(each["label"]): 2 * each["hits"] / max(1, each["actual"] + each["given"]) for each in standing_of(told)}


def slower_than(found: Traffic, seconds: float) -> int:
    """Requests in the bins that lie wholly beyond so many seconds."""
    if found.layout is None:
        return 0
    first = int(np.searchsorted(found.layout.told["latency"], seconds))
    return int(found.latency[first + 1 :].sum())


async def _outcomes(
    session: AsyncSession, model: str, version: int, heads: Sequence[str | None], since: datetime, until: datetime
) -> dict[str, Outcomes]:
    return {
        head or "": await outcomes(session, model, version, head=head, slot="active", since=since, until=until)
        for head in heads
    }


def _votes(told: Mapping[str, Outcomes]) -> tuple[int, int]:
    """Accepted and rejected answers, which are of the whole row: every head tells the same."""
    first = next(iter(told.values()))
    return first.accepted, first.rejected


def _heads(promised: Mapping[str, Any]) -> list[str | None]:
    return [check["head"] for check in promised.values() if check["kind"] == "f1"] or [None]


def _shifts(found: Traffic, heads: Mapping[str, Any]) -> dict[str, float]:
    """How far the scores of the version before had moved from its own profile: drift that is nobody's fault."""
    return {
        head: deviation(told["scores"]["counts"], found.scores[head].tolist())
        for head, told in heads.items()
        if head in found.scores and len(found.scores[head]) == len(told["scores"]["counts"])
    }
