"""What is asked of a language model, by the name of a metric or of a judged score."""

from collections.abc import Collection, Mapping
from typing import Any

from app.evaluation.metrics import METRICS, metric
from app.gate.criteria import LATENCY, Criterion, Gate

# Nothing absolute: what is good depends on the questions. Judges and likelihoods cost, so they are asked by name.
DEFAULT_CRITERIA: dict[str, Criterion] = {
    "token_f1": Criterion(max_drop=0.01),
    "rougeL": Criterion(max_drop=0.01),
}


def criteria_of(gate: Gate) -> dict[str, Criterion]:
    """The defaults, with the definition's over them."""
    return {name: c for name, c in (DEFAULT_CRITERIA | gate.criteria).items() if c is not None}


def judges_of(training: Mapping[str, Any]) -> list[str]:
    """The judged scores that a definition's training names; the type's own schema checks the rest of it."""
    evaluate = training.get("evaluate")
    judges = evaluate.get("judges") if isinstance(evaluate, Mapping) else None
    return sorted(map(str, judges)) if isinstance(judges, Mapping) else []


def check(gate: Gate, judges: Collection[str]) -> None:
    """Raises ValueError for a criterion that is not measured, or a bound that no figure of its metric can have."""
    if clash := sorted({*METRICS, LATENCY} & set(judges)):
        raise ValueError(f"training.evaluate.judges names a score {clash[0]}, which is a metric; give it another name")
    sliced = {name for slice in gate.slices for name in slice.criteria}
    unknown = [name for name in {**gate.criteria, **dict.fromkeys(sliced)} if name not in {*METRICS, LATENCY, *judges}]
    unknown += sorted(sliced & {LATENCY})
    if unknown:
        known = ", ".join([*METRICS, LATENCY, *judges])
        hint = "; judged scores are those that training.evaluate.judges names, and latency is of all rows together"
        raise ValueError(
            f"the gate of a language model does not measure {', '.join(sorted(unknown))}; it knows {known}{hint}"
        )
    every = [*gate.criteria.items(), *(item for slice in gate.slices for item in slice.criteria.items())]
    for name, criterion in every:
        if criterion is not None:
            _check_bounds(name, criterion)


def _check_bounds(name: str, criterion: Criterion) -> None:
    if criterion.min_rows_per_class is not None:
        raise ValueError(f"{name}: answers are of no class; leave min_rows_per_class out")
    bounds = [bound for bound in (criterion.min, criterion.max) if bound is not None]
    if name != LATENCY and metric(name).is_share and any(not 0 <= bound <= 1 for bound in bounds):
        raise ValueError(f"{name} is from 0 to 1; a bound of {max(bounds, key=abs):g} is beyond that")
