"""What is asked of one label column's predictions: each criterion of the whole, of one class, of each slice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.gate.criteria import LATENCY, Criterion, Gate, Mode, Name, Slice, parsed
from app.gate.metrics import BY_LABEL, METRICS, OF_ONE_CLASS, Measure, headline
from app.gate.slices import Group, Unsliceable, groups_of
from app.gate.tally import Integers
from app.gate.verdict import Rule
from app.runtimes.schema import Label, named

# What reads the rows of both classes where there are two; the others read the positive one's.
OF_BOTH = frozenset({"auc_roc", "balanced_accuracy"})


class Unanswerable(Exception):
    """A figure that the gate cannot give; the message says why."""


@dataclass(frozen=True)
class Question:
    """One criterion of all rows, or of one group of a slice. `cannot` says why nothing can be found for it."""

    name: str
    asked: Name
    criterion: Criterion
    mode: Rule
    slice: Slice | None = None
    group: Group | None = None
    cannot: str | None = None


def questions_of(
    table: pa.Table, label_column: str, told: Callable[[str], str], gate: Gate, mode: Mode, *, first: bool
) -> list[Question]:
    """`told` puts the label column before a name where there are several. Latency is asked of the first one alone."""
    criteria = gate.criteria_of(label_column)
    if not first:
        criteria.pop(LATENCY, None)
    whole = [Question(told(name), parsed(name), criterion, mode) for name, criterion in criteria.items()]
    return [*whole, *(q for slice in gate.slices for q in _of_slice(table, label_column, told, slice))]


def measure_of(question: Question, labels: Sequence[Label], counts: Integers) -> Measure:
    """What is measured, in the candidate's labels; `counts` (k,) are the rows of each that the question is about.

    A mean over classes leaves those out of which a group has too few rows. Raises Unanswerable.
    """
    metric, label = question.asked.metric, question.asked.label
    if metric not in METRICS:
        raise Unanswerable(f"the gate does not measure {metric}; it knows {', '.join([*METRICS, LATENCY])}")
    if label is not None:
        return Measure(metric, (_place(metric, label, labels),))
    if question.slice is None or metric not in BY_LABEL or len(labels) == 2:
        return Measure(metric)
    enough = np.flatnonzero(counts >= rows_per_class(question))
    return Measure(metric, tuple(enough.tolist()))


def too_few(question: Question, labels: Sequence[Label], counts: Integers) -> str | None:
    """Why the rows are not enough to judge by, if they are not."""
    rows = int(counts.sum())
    if question.slice and rows < question.slice.min_rows:
        return f"{rows} rows, and {question.slice.min_rows} are asked for"
    least = rows_per_class(question)
    read = _reads(question, labels)
    if question.slice and len(labels) > 2 and question.asked.label is None:
        none_left = bool(read) and not (counts >= least).any()
        return f"no class has the {least} rows that are asked for" if none_left else None
    few = [f"{counts[place]} of {named(labels[place])}" for place in read if counts[place] < least]
    return f"{', '.join(few)}, and {least} rows of a class are asked for" if few else None


def rows_per_class(question: Question) -> int:
    return question.criterion.min_rows_per_class or (question.slice.min_rows_per_class if question.slice else 0)


def _of_slice(table: pa.Table, label_column: str, told: Callable[[str], str], slice: Slice) -> Iterator[Question]:
    criteria = {name: (parsed(name), criterion) for name, criterion in slice.criteria_of(label_column).items()}
    try:
        groups = groups_of(table, slice.column, slice.at_most)
    except Unsliceable as error:
        for name, (asked, criterion) in criteria.items():
            yield Question(f"{told(name)}[{slice.column}]", asked, criterion, slice.mode, slice, cannot=str(error))
        return
    for group in groups:
        for name, (asked, criterion) in criteria.items():
            yield Question(f"{told(name)}[{group.name}]", asked, criterion, slice.mode, slice, group)


def _place(metric: str, label: str, labels: Sequence[Label]) -> int:
    if metric not in OF_ONE_CLASS:
        raise Unanswerable(f"{metric} is not of one class")
    known = [named(one) for one in labels]
    if label not in known:
        raise Unanswerable(f"the candidate knows no class {label}; it knows {', '.join(known)}")
    return known.index(label)


def _reads(question: Question, labels: Sequence[Label]) -> tuple[int, ...]:
    """The classes without whose rows the figure says nothing."""
    metric, label = question.asked.metric, question.asked.label
    if metric not in BY_LABEL:
        return ()
    if label is not None:
        return tuple(place for place, one in enumerate(labels) if named(one) == label)
    return tuple(range(len(labels))) if metric in OF_BOTH else headline(metric, len(labels))
