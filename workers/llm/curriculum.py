"""In which order rows are learnt from (Bengio et al. 2009), and which of them.

none          all of them, shuffled anew in each epoch
length        short ones first, by tokens, in every epoch alike
loss          first those that the base model already finds likely, by its mean loss on the answer's tokens
staged        stage by stage, as a column says; shuffled within a stage anew in each epoch
therapeutic   staged, by THERAPEUTIC

`target_dataset_size` takes a sample, stratified by the stages: each gives its share of the target, or, where no shares
are said, in proportion to its rows. A stage that has fewer gives all it has; nobody else's rows fill in for it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app.registry.artifacts import write_durably
from workers.llm.params import Curriculum, CurriculumStage
from workers.pipeline import PipelineError

# A counsellor's training: first to be with somebody, then to understand, then to help, and last, so that nothing
# learnt later covers it, what to do when a life is at stake. After Hill's helping skills (exploration, insight,
# action), with the alliance before and safety after them.
THERAPEUTIC = (
    CurriculumStage(name="rapport", values=["rapport", "greeting", "alliance", "small_talk"], share=0.15),
    CurriculumStage(name="empathy", values=["empathy", "validation", "reflection", "active_listening"], share=0.30),
    CurriculumStage(name="exploration", values=["exploration", "assessment", "open_question", "insight"], share=0.15),
    CurriculumStage(
        name="intervention",
        values=["intervention", "psychoeducation", "coping", "cbt", "motivational", "action", "technique"],
        share=0.25,
    ),
    CurriculumStage(name="safety", values=["safety", "crisis", "risk", "boundaries", "referral"], share=0.15),
)


@dataclass(frozen=True)
class Order:
    """Places among the token rows, in groups that come one after the other. `shuffled`: each within itself."""

    groups: list[list[int]]
    names: list[str]
    shuffled: bool

    @property
    def places(self) -> list[int]:
        return [place for group in self.groups for place in group]

    def write(self, path: Path) -> None:
        write_durably(path, orjson.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Order":
        return cls(**orjson.loads(path.read_bytes()))


def arrange(
    wanted: Curriculum,
    lengths: Sequence[int],
    column: Sequence[Any] | None,
    losses: Callable[[list[int]], list[float]],
    seed: int,
    log: Callable[[str], None],
) -> Order | None:
    """The order of token rows with `lengths`, and their `column` of the curriculum's name where the data has it.

    `losses(places)` is asked only for strategy `loss`. None: no curriculum, all rows. Raises PipelineError
    curriculum_mismatch.
    """
    generator = np.random.default_rng(seed)
    if wanted.strategy in ("staged", "therapeutic"):
        return _staged(wanted, column, generator, log)
    places = list(range(len(lengths)))
    if wanted.target_dataset_size is not None:
        places = _sampled(_strata(places, column), wanted.target_dataset_size, generator)
    elif wanted.strategy == "none":
        return None
    log(f"curriculum {wanted.strategy}: {len(places)} of {len(lengths)} rows")
    if wanted.strategy == "none":
        return Order([places], ["all"], shuffled=True)
    hardness = [float(lengths[place]) for place in places] if wanted.strategy == "length" else losses(places)
    return Order([[places[i] for i in np.argsort(hardness, kind="stable")]], [wanted.strategy], shuffled=False)


def _staged(
    wanted: Curriculum, column: Sequence[Any] | None, generator: np.random.Generator, log: Callable[[str], None]
) -> Order:
    if column is None:
        raise PipelineError(
            "curriculum_mismatch",
            f"The curriculum's column {wanted.column!r} is not in the data version.",
            "Name a column of the data source in training.curriculum.column.",
        )
    stages = list(THERAPEUTIC) if wanted.strategy == "therapeutic" else list(wanted.stages or [])
    groups = _by_stage(stages, column)
    _tell_unmatched(stages, groups, column, wanted.column, log)
    if wanted.target_dataset_size is not None:
        groups = _shared_out(stages, groups, wanted.target_dataset_size, generator, log)
    for stage, group in zip(stages, groups, strict=True):
        log(f"curriculum stage {stage.name}: {len(group)} rows")
    held = [(stage.name, group) for stage, group in zip(stages, groups, strict=True) if group]
    return Order([group for _, group in held], [name for name, _ in held], shuffled=True)


def _by_stage(stages: Sequence[CurriculumStage], column: Sequence[Any]) -> list[list[int]]:
    """A row goes to the first stage that has its value; case does not matter."""
    where: dict[str, int] = {}
    for place, stage in enumerate(stages):
        for value in stage.values or [stage.name]:
            where.setdefault(value.casefold(), place)
    groups: list[list[int]] = [[] for _ in stages]
    for row, value in enumerate(column):
        found = where.get(str(value).strip().casefold())
        if found is not None:
            groups[found].append(row)
    return groups


def _tell_unmatched(
    stages: Sequence[CurriculumStage],
    groups: Sequence[Sequence[int]],
    column: Sequence[Any],
    name: str,
    log: Callable[[str], None],
) -> None:
    inside = {row for group in groups for row in group}
    outside = Counter(str(value) for row, value in enumerate(column) if row not in inside)
    common = ", ".join(f"{value!r} ({count})" for value, count in outside.most_common(5))
    if not inside:
        raise PipelineError(
            "curriculum_mismatch",
            f"No row is of any stage ({', '.join(stage.name for stage in stages)}): the column {name!r} has {common}.",
            "Name the column's values in training.curriculum.stages.",
        )
    if outside:
        log(f"curriculum: {sum(outside.values())} rows are of no stage and left out: {common}")


def _shared_out(
    stages: Sequence[CurriculumStage],
    groups: Sequence[list[int]],
    target: int,
    generator: np.random.Generator,
    log: Callable[[str], None],
) -> list[list[int]]:
    shares = [stage.share for stage in stages]
    sizes = [float(len(group)) for group in groups]
    quotas = apportioned([share or 0.0 for share in shares] if None not in shares else sizes, target)
    for stage, group, quota in zip(stages, groups, quotas, strict=True):
        if len(group) < quota:
            log(f"curriculum stage {stage.name}: {quota} rows wanted, {len(group)} there")
    return [_drawn(group, quota, generator) for group, quota in zip(groups, quotas, strict=True)]


def _strata(places: Sequence[int], column: Sequence[Any] | None) -> list[list[int]]:
    strata: dict[str, list[int]] = {}
    for place in places:
        strata.setdefault(str(column[place]) if column is not None else "", []).append(place)
    return [strata[name] for name in sorted(strata)]


def _sampled(strata: Sequence[list[int]], target: int, generator: np.random.Generator) -> list[int]:
    quotas = apportioned([float(len(stratum)) for stratum in strata], target)
    drawn = [_drawn(stratum, quota, generator) for stratum, quota in zip(strata, quotas, strict=True)]
    return sorted(place for stratum in drawn for place in stratum)


def _drawn(group: list[int], quota: int, generator: np.random.Generator) -> list[int]:
    if quota >= len(group):
        return group
    return sorted(int(place) for place in generator.choice(group, quota, replace=False))


def apportioned(weights: Sequence[float], target: int) -> list[int]:
    """Whole numbers in proportion to `weights`, `target` together: by largest remainder (Hamilton's method)."""
    whole = sum(weights)
    exact = [weight / whole * target for weight in weights]
    given = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (given[i] - exact[i], i))
    for i in by_remainder[: target - sum(given)]:
        given[i] += 1
    return given


def column_of(table: Any, name: str, rows: Sequence[int]) -> list[Any] | None:
    """The curriculum's column at the token rows' places in their split."""
    if name not in table.column_names:
        return None
    values = table.column(name).to_pylist()
    return [values[row] for row in rows]


def told(order: Order | None) -> Mapping[str, int]:
    """Rows by stage, for the record."""
    return {} if order is None else {name: len(group) for name, group in zip(order.names, order.groups, strict=True)}
