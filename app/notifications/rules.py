"""Is an event told by a rule, and are two events the same news. Pure functions of what was recorded."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from app.events.tables import Event

# What somebody who is woken by it would want to know. `monitor` and `watch` are those of the room monitoring.
DEFAULT_KINDS = (
    "incident.*",
    "watch.*",
    "monitor.*",
    "slots.rolled_back",
    "job.failed",
    "schedule.refused",
    "notification.*",
    "notification_target.disabled",
)
SEVERITIES = ("P1", "P2", "P3", "P4")


class Wanted(Protocol):
    """What a rule asks for, as its row has it."""

    @property
    def target(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def kinds(self) -> Sequence[str]: ...
    @property
    def min_severity(self) -> str | None: ...


def matches(rule: Wanted, event: Event) -> bool:
    return (
        any(_fits(pattern, event.kind) for pattern in rule.kinds)
        and _concerns(rule, event)
        and _is_grave_enough(rule, event)
        and not _is_of_target(rule, event)
    )


def severity(event: Event) -> str | None:
    """That of an incident, by the event's evidence or its new state; None where the event does not say."""
    told = (evidence_of(event).get("severity"), event.after, event.before)
    return next((each for each in told if each in SEVERITIES), None) if event.kind.startswith("incident.") else None


def subject(event: Event) -> str:
    """Events with the same subject are the same news. A P1 is never silenced by the P4 that came before it."""
    return " ".join(part or "–" for part in (event.kind, event.model, severity(event)))


def evidence_of(event: Event) -> dict[str, Any]:
    return event.evidence if isinstance(event.evidence, dict) else {}


def common(values: Iterable[str | None]) -> str | None:
    """What all of them are; None where they differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _fits(pattern: str, kind: str) -> bool:
    return pattern in ("*", kind) or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))


def _concerns(rule: Wanted, event: Event) -> bool:
    """An incident of no model concerns every one."""
    of_all = event.model is None and event.kind.startswith("incident.")
    return rule.model is None or rule.model == event.model or of_all


def _is_grave_enough(rule: Wanted, event: Event) -> bool:
    """An incident of which the event does not say how grave it is, is told."""
    known = severity(event)
    return rule.min_severity is None or known is None or known <= rule.min_severity


def _is_of_target(rule: Wanted, event: Event) -> bool:
    """A target that does not answer is not told that it does not answer."""
    return event.kind.startswith("notification") and evidence_of(event).get("target") == rule.target
