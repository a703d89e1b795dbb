"""Examples → a fitted model, and its cross-validated score. All is learnt from training rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.runtimes import Batch
from workers.ml import encoding
from workers.ml.classes import ClassWeight, Indices, Matrix, Resampling, balanced_weights, oversample
from workers.ml.encoding import Encoding
from workers.ml.estimator import Effort, Estimator, Weighted
from workers.ml.families import Family, Hyperparameters
from workers.ml.scoring import auc_roc
from workers.ml.tabular import Examples


@dataclass(frozen=True)
class Model:
    """Rows → probabilities: the encoding and what was fitted on it."""

    encoding: Encoding
    family: Family
    estimator: Estimator

    def probabilities(self, batch: Batch) -> npt.NDArray[np.floating]:
        return self.estimator.predict_proba(self.encoding.transform(batch))


@dataclass(frozen=True)
class Balance:
    """What is done about classes of unequal size."""

    class_weight: ClassWeight
    resampling: Resampling


@dataclass(frozen=True)
class Recipe:
    """How a model is made."""

    family: Family
    hyperparameters: Hyperparameters
    balance: Balance
    effort: Effort


def fit(examples: Examples, recipe: Recipe) -> Model:
    """Raises NotConverged. Early stopping looks at a tenth of the examples that is not learnt from."""
    learnt = encoding.fit(examples.batch)
    features = learnt.transform(examples.batch)
    rows, stop = _portions(features, examples.classes, recipe)
    return Model(learnt, recipe.family, recipe.family.fit(rows, stop, recipe.hyperparameters, recipe.effort))


def go_on(examples: Examples, watched: Examples, recipe: Recipe, encoding: Encoding, parameters: Any) -> Model:
    """From the parameters of a published model and its encoding. Raises NotConverged.

    All examples are learnt from; early stopping looks at `watched`, for what the model learnt from tells nothing.
    """
    learn = encoding.transform(examples.batch), examples.classes
    stop = encoding.transform(watched.batch), watched.classes
    rows, weighted = _balanced(learn, stop, recipe)
    family = recipe.family
    assert family.go_on is not None  # or there would be no parameters
    return Model(encoding, family, family.go_on(parameters, rows, weighted, recipe.hyperparameters, recipe.effort))


def folds(examples: Examples, count: int, seed: int, time_ordered: bool) -> Iterator[tuple[Indices, Indices]]:
    """(training rows, test rows) of each stratified fold, shuffled unless the rows are ordered by time.

    Neighbours in time resemble each other, so there a fold is one stretch of time.
    """
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(count, shuffle=not time_ordered, random_state=None if time_ordered else seed)
    yield from splitter.split(examples.classes, examples.classes)


def cross_validate(
    examples: Examples, recipe: Recipe, splits: list[tuple[Indices, Indices]], on_fold: Callable[[int], None]
) -> float:
    """The mean AUC-ROC over the folds. `on_fold` is called before each. Raises NotConverged."""
    scores = []
    for number, (train, test) in enumerate(splits):
        on_fold(number)
        held_out = examples.take(test)
        model = fit(examples.take(train), recipe)
        scores.append(auc_roc(held_out.classes, model.probabilities(held_out.batch)))
    return float(np.mean(scores))


def _portions(features: Matrix, classes: Indices, recipe: Recipe) -> tuple[Weighted, Weighted]:
    """What to learn from, balanced as asked, and what to stop by: never rows synthesized or learnt from.

    Too few rows for that: stopping is by the rows learnt from.
    """
    stopping = _tenth(classes, recipe.effort.seed) if recipe.family.stops_early else np.zeros(len(classes), bool)
    stop = features[stopping], classes[stopping]
    learn = features[~stopping], classes[~stopping]
    rows, weighted = _balanced(learn, stop, recipe)
    return rows, weighted if stopping.any() else rows


def _balanced(learn: tuple[Matrix, Indices], stop: tuple[Matrix, Indices], recipe: Recipe) -> tuple[Weighted, Weighted]:
    """What is learnt from balanced as asked, and what is stopped by with the weights that its classes have there."""
    count = int(learn[1].max()) + 1
    natural = balanced_weights(learn[1], count)
    if recipe.balance.resampling == "smote":
        learn = oversample(*learn, recipe.effort.seed)
    balanced = balanced_weights(learn[1], count)
    if recipe.balance.class_weight == "none":
        balanced = np.ones(count)
        natural = natural if recipe.balance.resampling == "smote" else balanced
    rows = Weighted(*learn, balanced[learn[1]])
    return rows, Weighted(*stop, natural[stop[1]])


def _tenth(classes: Indices, seed: int) -> npt.NDArray[np.bool_]:
    """A random tenth of each class, rounded down."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(classes), bool)
    for each in np.unique(classes):
        members = np.flatnonzero(classes == each)
        chosen[generator.permutation(members)[: len(members) // 10]] = True
    return chosen
