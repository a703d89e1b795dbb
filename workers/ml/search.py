"""The hyperparameter search: Optuna's TPE over several families, resumable after any trial."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import orjson
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from app.registry.artifacts import write_durably
from workers.ml.families import Family


@dataclass(frozen=True)
class Choice:
    """What a trial tries."""

    family: str
    hyperparameters: Mapping[str, Any]

    def __str__(self) -> str:
        values = (
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self.hyperparameters.items()
        )
        return f"{self.family} ({', '.join(values)})"


@dataclass(frozen=True)
class Trial:
    """A finished trial; `score` is None where training did not converge."""

    choice: Choice
    score: float | None


@dataclass(frozen=True)
class Checkpoint:
    """Where finished trials are kept. `fingerprint` names what they depend on; others are ignored."""

    path: Path
    fingerprint: str

    def load(self) -> list[Trial]:
        """The trials that an earlier attempt finished."""
        if not self.path.exists():
            return []
        saved = orjson.loads(self.path.read_bytes())
        if saved["fingerprint"] != self.fingerprint:
            return []
        return [Trial(Choice(**trial["choice"]), trial["score"]) for trial in saved["trials"]]

    def save(self, trials: list[Trial]) -> None:
        kept = {"fingerprint": self.fingerprint, "trials": [asdict(trial) for trial in trials]}
        write_durably(self.path, orjson.dumps(kept))


def search(
    families: Mapping[str, Family],
    trials: int,
    seed: int,
    checkpoint: Checkpoint,
    evaluate: Callable[[int, Choice], float | None],
) -> list[Trial]:
    """Tries `trials` choices and returns them with their scores, higher being better.

    The first trials are the defaults of each family, the rest come from TPE (Bergstra et al. 2011). An
    attempt that resumes asks the same questions of a sampler with the same seed and is told the saved scores,
    so it goes on exactly as an uninterrupted one would.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Each family has hyperparameters of its own, so there is no joint space for a multivariate sampler to
    # learn.
    sampler = TPESampler(seed=seed, n_startup_trials=len(families), multivariate=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for name, family in families.items():
        study.enqueue_trial({"family": name} | {f"{name}.{key}": family.default[key] for key in family.space})
    finished = checkpoint.load()[:trials]
    for number in range(trials):
        asked = study.ask()
        choice = _choose(asked, families)
        if number == len(finished):
            finished.append(Trial(choice, evaluate(number, choice)))
            checkpoint.save(finished)
        score = finished[number].score
        study.tell(asked, score, state=TrialState.FAIL if score is None else TrialState.COMPLETE)
    return finished


def _choose(asked: optuna.Trial, families: Mapping[str, Family]) -> Choice:
    name = asked.suggest_categorical("family", list(families))
    family = families[name]
    tuned = {key: _suggest(asked, f"{name}.{key}", values) for key, values in family.space.items()}
    return Choice(name, {**family.default, **tuned})


def _suggest(asked: optuna.Trial, name: str, values: BaseDistribution) -> Any:
    match values:
        case FloatDistribution():
            return asked.suggest_float(name, values.low, values.high, log=values.log)
        case IntDistribution():
            return asked.suggest_int(name, values.low, values.high, log=values.log)
        case CategoricalDistribution():
            return asked.suggest_categorical(name, values.choices)
    raise TypeError(f"no way to suggest a {type(values).__name__}")
