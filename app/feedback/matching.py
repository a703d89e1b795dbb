"""Feedback against the answer that it speaks of: what it is counted as, or what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.errors import told_name
from app.feedback.answers import Answered
from app.runtimes.schema import named

NAMED_LABELS = 10


class Fault(NamedTuple):
    """`message` goes on where `field` began."""

    field: str
    message: str


@dataclass
class Matched:
    """`place` of the head among the version's heads, in their order in the block; `truth` is the label's index."""

    answer: Answered
    kind: str
    row: int
    place: int
    truth: int
    predicted: int


def match(
    model: str, answer: Answered | None, layout: Mapping[str, Any], row: int, head: str, kind: str, value: Any
) -> Matched | Fault:
    """`answer` None: its block is known and never gave that id. `predicted` is for the caller to find."""
    if answer is None:
        return Fault("request_id", "is of no answer that was given; a digit may be mistyped")
    if answer.model != model:
        return Fault("request_id", f"is of an answer of {answer.model}, not of {model}")
    if row >= answer.rows:
        return Fault("row", f"is beyond the answer, which has {answer.rows} rows, from 0 on")
    if kind == "accepted":
        return Matched(answer, kind, row, 0, int(value), 0)
    return _label(answer, layout, row, head, value)


def _label(answer: Answered, layout: Mapping[str, Any], row: int, head: str, value: Any) -> Matched | Fault:
    heads: Sequence[str] = layout["order"]
    wanted = head or heads[0]
    if wanted not in heads:
        return Fault("head", f"is none of version {answer.version}, which has {', '.join(map(told_name, heads))}")
    labels = [said(label) for label in layout["heads"][wanted]["labels"]]
    if said(value) not in labels:
        return Fault("label", f"is none of version {answer.version}, which knows {_known(labels)}")
    return Matched(answer, "label", row, heads.index(wanted), labels.index(said(value)), 0)


def said(label: Any) -> str:
    """A label as people write it, so that 1.0 is 1, and "true" is true."""
    return named(int(label) if isinstance(label, float) and label.is_integer() else label)


def _known(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - NAMED_LABELS} more" if len(labels) > NAMED_LABELS else ""
    return ", ".join(map(told_name, labels[:NAMED_LABELS])) + more
