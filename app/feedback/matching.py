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


class Heads:
    """The heads of a version by its layout, and where their labels stand."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.names: Sequence[str] = told["order"]
        self._labels = {name: told["heads"][name]["labels"] for name in self.names}
        self._places: dict[str, dict[str, int]] = {}

    def places(self, name: str) -> dict[str, int]:
        """By what people write; worked out once, for a head may have thousands."""
        if name not in self._places:
            self._places[name] = {said(label): place for place, label in enumerate(self._labels[name])}
        return self._places[name]


def match(
    model: str, answer: Answered | None, heads: Heads | None, row: int, head: str, kind: str, value: Any
) -> Matched | Fault:
    """`answer` None: its block is known and never gave that id. `heads` are those of the model's version. `predicted`
    is for the caller to find."""
    if answer is None:
        return Fault("request_id", "is of no answer that was given; a digit may be mistyped")
    if answer.model != model or heads is None:
        return Fault("request_id", f"is of an answer of {answer.model}, not of {model}")
    if row >= answer.rows:
        return Fault("row", f"is beyond the answer, which has {answer.rows} rows, from 0 on")
    if kind == "accepted":
        return Matched(answer, kind, row, 0, int(value), 0)
    return _label(answer, heads, row, head, value)


def _label(answer: Answered, heads: Heads, row: int, head: str, value: Any) -> Matched | Fault:
    if not heads.names:
        return Fault("label", f"fits no answer of version {answer.version}, which answers with text; send `accepted`")
    wanted = head or heads.names[0]
    if wanted not in heads.names:
        return Fault("head", f"is none of version {answer.version}, which has {', '.join(map(told_name, heads.names))}")
    places = heads.places(wanted)
    if said(value) not in places:
        return Fault("label", f"is none of version {answer.version}, which knows {_known(list(places))}")
    return Matched(answer, "label", row, heads.names.index(wanted), places[said(value)], 0)


def said(label: Any) -> str:
    """A label as people write it, so that 1.0 is 1, and "true" is true."""
    return named(int(label) if isinstance(label, float) and label.is_integer() else label)


def _known(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - NAMED_LABELS} more" if len(labels) > NAMED_LABELS else ""
    return ", ".join(map(told_name, labels[:NAMED_LABELS])) + more
