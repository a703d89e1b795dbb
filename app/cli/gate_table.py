"""The gate's report as a table: candidate against incumbent, criterion by criterion."""

from typing import Any

from app.cli.output import UNKNOWN, say, table

HEADERS = ("criterion", "candidate", "incumbent", "delta", "requirement", "verdict")


def show_gate(report: dict[str, Any]) -> None:
    """The table on stdout, the sentence that sums it up on stderr."""
    table(HEADERS, [_row(criterion) for criterion in report["criteria"]])
    against = f"version {report['incumbent']}" if report["incumbent"] else "no version: none was ever active"
    say(f"judged on {report['rows']} holdout rows against {against} ({report['mode']})")
    say(report["reason"])


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
