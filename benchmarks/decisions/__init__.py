"""What Refit decides, drawn many times over with the truth known: how often it decides rightly.

`on_service` shows what takes a service that runs. Each other module has `simulate(draws) -> list[Figure]` and runs
alone: `python -m benchmarks.decisions.gate 1000`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One sentence of what was found, and whether it is what is promised."""

    sentence: str
    holds: bool = True
