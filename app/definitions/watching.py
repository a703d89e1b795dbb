"""How a definition says that a new active version is watched."""

from typing import Literal

from pydantic import Field

from app.schemas import Strict

# A language model answers slowly and is judged slowly (runbook 000: the first 24 hours).
LONG_WATCH_MINUTES = {"llm": 24 * 60.0}


class WatchOptions(Strict):
    """How long a new active version is watched, and what is established against it; the one before stays in standby.

    Every limit may be null: that is not watched. `false_alarms` is the share of all watches of versions that are what
    the gate measured which may end in a rollback all the same, however often is looked.
    """

    minutes: float = Field(30, ge=0, le=7 * 24 * 60, description="0: no watch  [of an llm 24 hours]")
    rollback: Literal["automatic", "manual"] = Field(
        "automatic", description="manual: a breach holds, and tells people"
    )
    false_alarms: float = Field(0.02, gt=0, le=0.2)
    max_f1_drop: float | None = Field(0.01, ge=0, lt=1, description="below what the gate measured")
    max_acceptance_drop: float | None = Field(0.1, ge=0, lt=1, description="below that of the version before")
    max_error_rise: float | None = Field(0.01, ge=0, lt=1, description="above the version before, share of requests")
    max_slow_share: float | None = Field(
        0.05, ge=0, lt=0.9, description="beyond a hundredth, of requests that are slow"
    )
    slow_seconds: float | None = Field(None, gt=0, description="what is slow  [the gate's limit, 5 x the p99 before]")
    max_score_shift: float | None = Field(0.25, gt=0, le=1, description="of the scores' distribution (Kolmogorov)")
    min_requests: int = Field(
        20, ge=1, le=10**9, description="or rows, or labels; fewer in the whole watch: inconclusive"
    )
