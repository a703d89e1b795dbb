"""What a gate can ask of a version that predicts labels, by the names of metrics, columns and classes."""

from collections.abc import Mapping, Sequence

from app.gate.criteria import LATENCY, Gate, Name, parsed
from app.gate.metrics import METRICS, OF_ONE_CLASS
from app.runtimes.schema import Label, named


def check(gate: Gate, columns: Sequence[str], labels: Mapping[str, Sequence[Label]]) -> None:
    """`columns` are those of labels; `labels` the classes of each that names them.

    Raises ValueError for a criterion that is not measured, a class that is unknown, or a slice by what is predicted.
    """
    asked = {name: parsed(name) for name in [*gate.criteria, *(n for s in gate.slices for n in s.criteria)]}
    sliced = {n for s in gate.slices for n in s.criteria}
    if unknown := sorted(n for n, parts in asked.items() if not _is_measured(parts, columns, n not in sliced)):
        known = ", ".join([*METRICS, LATENCY])
        hint = f", each but the last of a label column too, such as {columns[0]}.f1" if len(columns) > 1 else ""
        hint += f"; {', '.join(OF_ONE_CLASS)} of one class too, such as recall[spam]"
        raise ValueError(f"the gate does not measure {', '.join(unknown)}; it knows {known}{hint}")
    for name, parts in asked.items():
        _known_class(name, parts, columns, labels)
    if clash := sorted(set(gate.slice_columns) & set(columns)):
        raise ValueError(f"{clash[0]} is what is predicted: instead of a slice write recall[…] of one class")


def _is_measured(name: Name, columns: Sequence[str], of_all_rows: bool) -> bool:
    """Latency is of the whole version: of no label column, no class and no slice."""
    if name.metric == LATENCY:
        return of_all_rows and name.column is None and name.label is None
    if name.column is not None and name.column not in columns:
        return False
    return name.metric in (METRICS if name.label is None else OF_ONE_CLASS)


def _known_class(name: str, parts: Name, columns: Sequence[str], labels: Mapping[str, Sequence[Label]]) -> None:
    """Where the definition says which classes there are, the class of a criterion is one of them."""
    speaks_of = columns if parts.column is None else [parts.column]
    known = [named(label) for column in speaks_of for label in labels.get(column, ())]
    if parts.label is not None and all(column in labels for column in speaks_of) and parts.label not in known:
        raise ValueError(f"{name} speaks of a class that data.labels does not know; it knows {', '.join(known)}")
