"""How sure the version is of its answers, as a trend: a version that grows unsure of what it sees often errs soon."""

from datetime import timedelta
from itertools import combinations
from math import erf, sqrt
from typing import Literal

from pydantic import Field

from app.monitoring.monitors import CountedMinutes, FewestRows, Finding, MonitorOptions, Numbers, State, Subject
from app.traffic import service as traffic

# A trend that comes by chance less often than this is one.
DOUBT = 0.05


class Options(MonitorOptions):
    """Breached where the mean confidence surely falls over the `windows` (Mann-Kendall), by more than `max_fall`."""

    kind: Literal["confidence"] = "confidence"
    head: str | None = Field(None, description="the label column; default: the first")
    window_minutes: CountedMinutes = 60
    windows: int = Field(8, ge=5, le=100)
    min_rows: FewestRows = Field(100, description="of a window; a smaller one does not count")
    max_fall: float = Field(0.05, gt=0, lt=1, description="of the mean, from the first window to the last")


async def read(subject: Subject, options: Options) -> Numbers:
    """The mean confidence by window, the oldest first; null where a window has too few rows."""
    # Whole minutes, as traffic is counted, the present one among them: no two windows share one.
    whole = subject.now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    step = timedelta(minutes=round(options.window_minutes))
    means: list[float | None] = []
    for place in reversed(range(options.windows)):
        until = whole - place * step
        seen = await traffic.window(subject.session, subject.model, subject.version, "active", until - step, until)
        mean = seen.mean_confidence(options.head) if seen.rows - seen.skipped >= options.min_rows else None
        means.append(None if mean is None else round(mean, 5))
    return {"means": means}


def judge(options: Options, numbers: Numbers) -> Finding:
    means = [mean for mean in numbers["means"] if mean is not None]
    if numbers["means"][-1] is None or len(means) < 5:
        told = (
            f"{len(means)} of {options.windows} windows have {options.min_rows} rows; the last and four more are needed"
        )
        return Finding(State.UNKNOWN, f"{told}.")
    fall = means[0] - means[-1]
    found = f"The mean confidence went from {means[0]:.3f} to {means[-1]:.3f} over {len(means)} windows"
    if fall <= options.max_fall:
        return Finding(State.OK, f"{found}.")
    if chance_of_falling(means) > DOUBT:
        return Finding(State.PENDING, f"{found}, and not steadily enough to be a trend.")
    return Finding(State.BREACHED, f"{found}: a fall of more than {options.max_fall:g}.")


def chance_of_falling(values: list[float]) -> float:
    """How often values without a trend fall at least so steadily: the one-sided Mann-Kendall test (Mann 1945), by the
    normal approximation with continuity correction."""
    n = len(values)
    s = sum((late > early) - (late < early) for early, late in combinations(values, 2))
    if s >= 0:
        return 1.0
    z = (s + 1) / sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return 0.5 * (1 + erf(z / sqrt(2)))
