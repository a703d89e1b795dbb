"""The gate's report as a table: candidate against incumbent, criterion by criterion, then slice by slice."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.cli.output import UNKNOWN, say, table

Report = dict[str, Any]
Criterion = dict[str, Any]
HEADERS = ("criterion", "candidate", "incumbent", "delta", "requirement", "verdict")
# Where intervals have a say.
CONFIDENT = ("criterion", "candidate", "incumbent", "delta", "interval", "n", "requirement", "verdict")
WORST_FIRST = ("fail", "inconclusive", "pass", "not_applicable")
MOST_SLICES = 20


def show_gate(report: Report) -> None:
    """The table on stdout, what it is about and what decided on stderr."""
    gate_table(report)
    for line in beside(report):
        say(line)
    say(f"{judged_on(report)}. {report['reason']}")


def gate_table(report: Report, *, indent: int = 0) -> None:
    """All criteria of the whole, and the slices' with what is worst first, as many as one reads."""
    whole = [c for c in report["criteria"] if not c.get("slice")]
    shown = [*whole, *_slices(report)[:MOST_SLICES]]
    headers = CONFIDENT if report["mode"] == "confident" or len(shown) > len(whole) else HEADERS
    cells = map(_cells, shown)
    table(headers, ([row[header] for header in headers] for row in cells), indent=indent)


def beside(report: Report) -> list[str]:
    """What the table does not show: how the slices are in all, and which rows did not judge."""
    lines = []
    if sliced := _slices(report):
        counted = Counter(c["verdict"] for c in sliced)
        told = ", ".join(f"{counted[v]} {v.replace('_', ' ')}" for v in WORST_FIRST if counted[v])
        more = f"; the {MOST_SLICES} worst are shown" if len(sliced) > MOST_SLICES else ""
        lines.append(f"Of {len(sliced)} criteria of slices: {told}{more}.")
    excluded = {who: n for who, n in report.get("excluded", {}).items() if n}
    if excluded:
        who = " and ".join(f"{n} that the {version} was trained on" for version, n in excluded.items())
        lines.append(f"Rows left out: {who}.")
    if report.get("leak_reason"):
        lines.append(f"Leak check unknown: {report['leak_reason']}.")
    return lines


def judged_on(report: Report) -> str:
    against = f"version {report['incumbent']}" if report["incumbent"] else "no version, for none was ever active"
    return f"Judged on {report['rows']} holdout rows against {against} (mode {report['mode']})"


def _slices(report: Report) -> Sequence[Criterion]:
    found = [c for c in report["criteria"] if c.get("slice")]
    return sorted(found, key=lambda c: (WORST_FIRST.index(c["verdict"]), c["delta"] or 0))


def _cells(criterion: Criterion) -> dict[str, str]:
    """By header."""
    return {
        "criterion": criterion["name"],
        "candidate": figure(criterion["candidate"]),
        "incumbent": figure(criterion["incumbent"]),
        "delta": figure(criterion["delta"], "+"),
        "interval": _interval(criterion["interval"]),
        "n": str(criterion["n"]),
        "requirement": criterion["requirement"],
        "verdict": criterion["verdict"],
    }


def _interval(interval: Sequence[float] | None) -> str:
    return UNKNOWN if interval is None else " to ".join(figure(end, "+") for end in interval)


def figure(value: float | None, sign: str = "") -> str:
    """Four decimals, as gates are written; what is too small for them in scientific notation."""
    if value is None:
        return UNKNOWN
    return f"{value:{sign}.1e}" if 0 < abs(value) < 5e-4 else f"{value:{sign}.4f}"
