"""Events as people read them: one sentence each. Pure functions of the event."""

import re
from collections.abc import Sequence

from app.events.tables import Event
from app.notifications.rules import evidence_of, severity

LONGEST_REASON = 300
BLANK = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")


def sentence(event: Event) -> str:
    """Such as `fraud: slots rolled back to version 6 by alice (a11ce): worse than before.`"""
    what = _incident(event) if event.kind.startswith("incident.") else _change(event)
    subject = f"{event.model}: " if event.model else ""
    reason = _shortened(event.reason or _fault(event))
    return f"{subject}{what} by {_one_line(event.actor)}{f': {reason}' if reason else ''}".rstrip(".") + "."


def summary(sentences: Sequence[str], suppressed: int) -> str:
    """Several sentences as one text, a line each, with what was not told before."""
    head = sentences if len(sentences) == 1 else (f"{len(sentences)} events:", *sentences)
    times = "time" if suppressed == 1 else "times"
    left_out = (f"It happened {suppressed} {times} more since the last message.",) if suppressed else ()
    return "\n".join((*head, *left_out))


def _incident(event: Event) -> str:
    _, _, happened = event.kind.partition(".")
    grave = severity(event)
    return f"{f'{grave} ' if grave else ''}incident {_words(happened)}"


def _change(event: Event) -> str:
    thing, _, happened = event.kind.partition(".")
    number = f" {event.job_id}" if event.job_id and thing == "job" else ""
    version = f" {'to ' if thing == 'slots' else ''}version {event.version}," if event.version else ""
    return f"{_words(thing)}{number} {_words(happened)}{version.rstrip(',')}{_name(event)}"


def _name(event: Event) -> str:
    """Which stage, target, … it was, where the evidence says so."""
    evidence = evidence_of(event)
    named = next((evidence[key] for key in ("monitor", "target", "name") if isinstance(evidence.get(key), str)), None)
    return f" ({_shortened(named)})" if named else ""


def _fault(event: Event) -> str:
    evidence = evidence_of(event)
    said = (evidence.get(key) for key in ("message", "error", "code"))
    return next((each for each in said if isinstance(each, str)), "")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shortened(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def _one_line(text: str) -> str:
    return BLANK.sub(" ", text).strip()
