"""The A/B report: what both versions did in the time of a trial."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock
from app.feedback.outcomes import Outcomes, outcomes
from app.feedback.same_rows import same_rows
from app.runtimes.schema import named
from app.traffic import service as traffic
from app.traffic.layout import Layout
from app.traffic.service import Traffic
from app.trials import intervals
from app.trials.intervals import CONFIDENCE
from app.trials.schemas import ArmView, Compared, Estimate, ReportView, TrialView
from app.trials.tables import Trial


class Told(NamedTuple):
    """What feedback tells of both versions, and the differences."""

    active: Outcomes
    standby: Outcomes
    accuracy: Estimate
    f1: Estimate


async def report(session: AsyncSession, trial: Trial, head: str | None) -> ReportView:
    """By the head of that name, else the first. Whole minutes: what active answered in the trial's first and last."""
    until = trial.ended_at or await session.scalar(select(clock()))
    assert until is not None
    arm = trial.kind
    old = await traffic.window(session, trial.model, trial.active, "active", trial.started_at, until)
    new = await traffic.window(session, trial.model, trial.standby, arm, trial.started_at, until)
    told = await (_of_same_rows(session, trial, head) if arm == "shadow" else _of_each(session, trial, head, until))
    active, standby = _arm(old, told.active), _arm(new, told.standby)
    return ReportView(
        trial=TrialView.model_validate(trial),
        since=old.since,
        until=old.until,
        confidence=CONFIDENCE,
        head=told.active.head or None,
        active=active,
        standby=standby,
        differences={
            "error_rate": intervals.difference(standby.error_rate, active.error_rate),
            "accuracy": told.accuracy,
            "acceptance": intervals.difference(standby.acceptance, active.acceptance),
            "f1": told.f1,
        },
        compared=_compared(trial) if trial.kind == "shadow" else None,
    )


async def _of_each(session: AsyncSession, trial: Trial, head: str | None, until: datetime) -> Told:
    """Of a canary: each version has answered rows of its own."""
    old, new = [
        await outcomes(
            session, trial.model, version, head=head, slot=slot, since=trial.started_at, until=until, by="answer"
        )
        for version, slot in ((trial.active, "active"), (trial.standby, trial.kind))
    ]
    accuracy = intervals.difference(_accuracy(new), _accuracy(old))
    return Told(old, new, accuracy, intervals.f1_difference(new.confusion, old.confusion))


async def _of_same_rows(session: AsyncSession, trial: Trial, head: str | None) -> Told:
    """Of a shadow: the rows that both have answered, and no others."""
    same = await same_rows(
        session, trial.model, trial.id, active=trial.active, standby=trial.standby, since=trial.started_at, head=head
    )
    old, new = same.active, same.standby
    accuracy = intervals.difference(_accuracy(new), _accuracy(old), intervals.phi(same))
    return Told(old, new, accuracy, intervals.f1_difference_of_same_rows(same))


def _arm(seen: Traffic, told: Outcomes) -> ArmView:
    return ArmView(
        version=seen.version,
        slot=seen.slot,
        requests=seen.requests,
        rows=seen.rows,
        errors=seen.errors,
        invalid=seen.invalid,
        error_rate=intervals.proportion(seen.errors, seen.requests),
        labels=_shares(seen, told.head),
        mean_score=seen.mean_score(told.head),
        latency_p50=seen.latency_quantile(0.5),
        latency_p99=seen.latency_quantile(0.99),
        accuracy=_accuracy(told),
        f1=intervals.f1(told.confusion),
        acceptance=intervals.proportion(told.accepted, told.accepted + told.rejected),
    )


def _accuracy(told: Outcomes) -> Estimate:
    return intervals.proportion(int(np.trace(told.confusion)), told.n)


def _shares(seen: Traffic, head: str) -> dict[str, float]:
    counts = seen.labels.get(head)
    if seen.layout is None or counts is None or not counts.sum():
        return {}
    layout: Layout = seen.layout
    names = [named(label) for label in layout.told["heads"][head]["labels"]]
    return dict(zip(names, (counts / counts.sum()).tolist(), strict=True))


def _compared(trial: Trial) -> Compared:
    agreement: Estimate = intervals.proportion(trial.agreed, trial.rows)
    mean = trial.difference / trial.rows if trial.rows else None
    return Compared(rows=trial.rows, agreement=agreement, mean_score_difference=mean, dropped=trial.dropped)
