"""Monitors: rules that look at recorded numbers and may trigger a job. One file is one kind, found by its name.

A kind `app/monitoring/monitors/<kind>.py` has `Options`, `async def read(subject, options) -> Numbers` which gathers
what was recorded, and `judge(options, numbers) -> Finding`, a pure function of it. The numbers are kept with the
finding, so that anyone can judge again.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol, Self

from pydantic import Field, ValidationError, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.schemas import Strict

Numbers = dict[str, Any]

# A leap year. Beyond some thousands of them no calendar knows the time that is meant.
MOST_MINUTES = 366 * 24 * 60
Minutes = Annotated[float, Field(ge=1 / 60, le=MOST_MINUTES)]
CountedMinutes = Annotated[float, Field(ge=1, le=MOST_MINUTES)]  # traffic is counted by the minute
FewestRows = Annotated[int, Field(ge=1, le=10**9)]


class State(StrEnum):
    OK = "ok"
    PENDING = "pending"  # beyond the limit, and not yet for long or surely enough
    BREACHED = "breached"
    UNKNOWN = "unknown"  # nothing to judge by, which is never ok


@dataclass(frozen=True)
class Finding:
    """What a monitor says. `reason` is one sentence for people, with its figures."""

    state: State
    reason: str


class MonitorOptions(Strict):
    """What every monitor has. `versions` lays other thresholds over these while that version is active."""

    kind: str
    every_minutes: float = Field(60, ge=1 / 60, le=7 * 24 * 60, description="how often it looks by itself")
    trigger: bool = Field(True, description="a breach triggers a job; false: it is only told")
    silent_minutes: Minutes = Field(24 * 60, description="unknown for so long: that is told once more")
    versions: dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")], dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def other_thresholds_are_thresholds(self) -> Self:
        for version, other in self.versions.items():
            if odd := sorted(other.keys() & {"kind", "versions", "every_minutes", "trigger", "silent_minutes"}):
                raise ValueError(f"versions.{version} cannot change {', '.join(odd)}")
            self._laid_over(other)
        return self

    @property
    def is_urgent(self) -> bool:
        """Whether its jobs go before others: accuracy and drift do (runbook 002)."""
        return False

    def of_version(self, number: int) -> Self:
        other = self.versions.get(str(number))
        return self if other is None else self._laid_over(other)

    def _laid_over(self, other: Mapping[str, Any]) -> Self:
        try:
            return type(self).model_validate(self.model_dump(exclude={"versions"}, exclude_unset=True) | dict(other))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"versions: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True)
class Subject:
    """A model while it is looked at: its active version, and the moment that all of its monitors share."""

    session: AsyncSession
    model: str
    version: int
    now: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)  # what the gate measured of the version
    reference: Mapping[str, Any] = field(default_factory=dict)  # its profile, see workers/ml/profile.py


class Kind(Protocol):
    Options: type[MonitorOptions]

    async def read(self, subject: Subject, options: Any) -> Numbers: ...

    def judge(self, options: Any, numbers: Numbers) -> Finding: ...


def kinds() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(kind: str) -> Kind:
    module: Any = importlib.import_module(f"{__name__}.{kind}")
    found: Kind = module
    return found


def options_of(told: Mapping[str, Any]) -> MonitorOptions:
    """The options of a monitor, checked by its kind. Raises ValueError naming the known kinds."""
    kind = told.get("kind")
    if kind not in kinds():
        found = "it names no kind" if kind is None else f"kind is {kind!r}"
        raise ValueError(f"{found}; a monitor is one of {', '.join(kinds())}")
    return find(str(kind)).Options.model_validate(told)
