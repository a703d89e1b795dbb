"""Columns against the version's reference profile: the runbook's "aggregate PSI > 0.3", knowing its sample size."""

from datetime import timedelta
from typing import Any, Literal

import numpy as np
from pydantic import Field

from app.monitoring.monitors import CountedMinutes, FewestRows, Finding, MonitorOptions, Numbers, State, Subject
from app.monitoring.psi import Shift, aggregate, shift
from app.traffic import service as traffic

NAMED = 3


class Options(MonitorOptions):
    """Breached where the aggregate index, or one column's, is beyond its limit in each of the last `windows`."""

    kind: Literal["drift"] = "drift"
    max_psi: float = Field(0.3, gt=0, le=100, description="of the mean over the columns")
    max_column_psi: float | None = Field(None, gt=0, le=100, description="of any column; default: only told")
    columns: list[str] | None = Field(None, min_length=1, description="only these  [all]")
    window_minutes: CountedMinutes = 60
    windows: int = Field(3, ge=1, le=100, description="consecutive ones")
    min_rows: FewestRows = Field(200, description="of a window; fewer: unknown")

    @property
    def is_urgent(self) -> bool:
        return True


async def read(subject: Subject, options: Options) -> Numbers:
    """The windows, the newest first, each with its rows and its columns' shifts."""
    # Whole minutes, as traffic is counted, the present one among them: no two windows share one.
    whole = subject.now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    step = timedelta(minutes=round(options.window_minutes))
    found = []
    for place in range(options.windows):
        until = whole - place * step
        seen = await traffic.window(subject.session, subject.model, subject.version, "active", until - step, until)
        found.append(_told(seen, subject.reference, options))
    known = subject.reference.get("columns", {})
    return {"windows": found, "missing": sorted(set(options.columns or ()) - known.keys())}


def judge(options: Options, numbers: Numbers) -> Finding:
    windows = numbers["windows"]
    newest = windows[0]
    if missing := numbers["missing"]:
        told = f"The version has no reference profile of {', '.join(missing)}, which this monitor's columns name."
        return Finding(State.UNKNOWN, told)
    if not newest["columns"] and newest["rows"] >= options.min_rows:
        return Finding(State.UNKNOWN, "The version has no reference profile of these columns.")
    if newest["rows"] < options.min_rows:
        within = f"in {options.window_minutes:g} minutes"
        return Finding(State.UNKNOWN, f"{newest['rows']} rows were counted {within}; {options.min_rows} are needed.")
    beyond = [_is_beyond(window, options) for window in windows]
    found = f"The aggregate PSI is {newest['aggregate']['excess']:.3f} of {newest['rows']} rows{_named(newest)}"
    if not beyond[0]:
        return Finding(State.OK, f"{found}.")
    if not all(beyond):
        streak = beyond.index(False)
        return Finding(State.PENDING, f"{found}, beyond its limit in {streak} of {options.windows} windows.")
    in_a_row = f" in {options.windows} windows in a row" if options.windows > 1 else ""
    return Finding(State.BREACHED, f"{found}, beyond its limit{in_a_row}.")


def _told(seen: traffic.Traffic, reference: Any, options: Options) -> Numbers:
    known = reference.get("columns", {})
    wanted = seen.columns.keys() & known.keys() & set(options.columns or known)
    shifts = {name: shift(_counts(known[name]), seen.columns[name]) for name in sorted(wanted)}
    return {
        "since": seen.since.isoformat(),
        "rows": seen.rows - seen.skipped,
        "aggregate": _rounded(aggregate(shifts)),
        "columns": {name: _rounded(each) for name, each in shifts.items()},
    }


def _counts(column: Any) -> Any:
    """The reference in the layout's order (app/traffic/layout.py)."""
    if column["kind"] == "numeric":
        return np.array([*column["counts"], column["missing"]], np.int64)
    return np.array([*column["counts"].values(), column["other"], column["missing"]], np.int64)


def _rounded(found: Shift) -> Numbers:
    return {name: round(value, 5) for name, value in vars(found).items()}


def _is_beyond(window: Numbers, options: Options) -> bool:
    if window["rows"] < options.min_rows:
        return False
    if Shift(**window["aggregate"]).is_beyond(options.max_psi):
        return True
    limit = options.max_column_psi
    return limit is not None and any(Shift(**each).is_beyond(limit) for each in window["columns"].values())


def _named(window: Numbers) -> str:
    most = sorted(window["columns"].items(), key=lambda item: -item[1]["excess"])[:NAMED]
    told = ", ".join(f"{name} {each['excess']:.2f}" for name, each in most if each["excess"] > 0)
    return f" (most: {told})" if told else ""
