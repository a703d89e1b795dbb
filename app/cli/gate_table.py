"""The gate's report as a table: candidate against incumbent, criterion by criterion."""

from typing import Any

from app.cli.output import UNKNOWN, say, table

Report = dict[str, Any]
HEADERS = ("criterion", "candidate", "incumbent", "delta", "requirement", "verdict")


def show_gate(report: Report) -> None:
    """The table on stdout, what it is about and what decided on stderr."""
    gate_table(report)
    say(f"{judged_on(report)}. {report['reason']}")


def gate_table(report: Report, *, indent: int = 0) -> None:
    table(HEADERS, [_row(criterion) for criterion in report["criteria"]], indent=indent)


def judged_on(report: Report) -> str:
    against = f"version {report['incumbent']}" if report["incumbent"] else "no version, for none was ever active"
    return f"Judged on {report['rows']} holdout rows against {against} (mode {report['mode']})"


def _row(criterion: dict[str, Any]) -> tuple[str, ...]:
    return (
        criterion["name"],
        figure(criterion["candidate"]),
        figure(criterion["incumbent"]),
        figure(criterion["delta"], "+"),
        criterion["requirement"],
        criterion["verdict"],
    )


def figure(value: float | None, sign: str = "") -> str:
    """Four decimals, as gates are written; what is too small for them in scientific notation."""
    if value is None:
        return UNKNOWN
    return f"{value:{sign}.1e}" if 0 < abs(value) < 5e-4 else f"{value:{sign}.4f}"
